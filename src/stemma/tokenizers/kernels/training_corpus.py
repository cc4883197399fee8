"""The words that merges are learned from, as kernels see them.

All words stand in one row of cells, one cell for each byte and one between words. A token of
several bytes has its id in its first and in its last cell, so that from any token both neighbours
are found without links: the right one begins after the last cell, the left one ends before the
first. Words that are equally common stand together: a word's count follows from its place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stemma.tokenizers.kernels import lean_kernel

NOTHING = -1
"""No token; what stands between words."""
INSIDE = -2
"""What stands in the cells between a token's first and last."""
BLOCK = 10
"""Counts are looked up by the block of 2^10 places."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_32 = np.uint64(32)


class Corpus(NamedTuple):
    """Words and tokens.

    Args:
        cells: the row of cells, int32.
        run_at: for each block of places the run of equally common words in which it begins, int32.
        run_ends: the place where each run ends, int64.
        run_counts: how often each word of the run occurs, int64.
        text: the bytes of the cells, then those of the first tokens, uint8; empty if tokens are
            not told apart by their spelling.
        spelled_at: where in the text each id is spelled, int64.
        lengths: the number of cells of each id, int32.
        by_spelling: hash table of ids, int32; its size is a power of two.
    """

    cells: Any
    run_at: Any
    run_ends: Any
    run_counts: Any
    text: Any
    spelled_at: Any
    lengths: Any
    by_spelling: Any


@lean_kernel
def lay_out(corpus: Corpus, n_ids: int, symbols: Any, ends: Any, counts: Any, order: Any) -> None:
    """Fill the cells, the text, the runs and the table of spellings.

    Args:
        corpus: length and spelling of the first ids are there already.
        n_ids: number of these.
        symbols: the ids of all words, int32.
        ends: where each word ends in them, int64.
        counts: how often each word occurs, int64.
        order: the words, those of equal count together, int64.
    """
    cells, text, lengths = corpus.cells, corpus.text, corpus.lengths
    cells[0] = NOTHING
    at = np.int64(1)
    run = -1
    for word in order:
        if run < 0 or corpus.run_counts[run] != counts[word]:
            run += 1
            corpus.run_counts[run] = counts[word]
        for i in range(ends[word - 1] if word else 0, ends[word]):
            id_ = symbols[i]
            for j in range(lengths[id_]):
                cells[at + j] = INSIDE
                if text.size:
                    text[at + j] = text[corpus.spelled_at[id_] + j]
            cells[at] = id_
            at += lengths[id_]
            cells[at - 1] = id_
        cells[at] = NOTHING
        at += 1
        corpus.run_ends[run] = at
    run = 0
    for block in range(corpus.run_at.size):
        while corpus.run_ends[run] <= block << BLOCK:
            run += 1
        corpus.run_at[block] = run
    if text.size:
        for id_ in range(n_ids):
            slot = find_spelling(corpus, corpus.spelled_at[id_], np.int64(lengths[id_]))
            corpus.by_spelling[slot] = id_


@lean_kernel
def count_at(run_at: Any, run_ends: Any, run_counts: Any, p: Any) -> Any:
    """How often the word occurs that stands at place ``p``; the arrays as in `Corpus`.

    Were it given the tuple instead of the arrays, numba would count references at each call.
    """
    run = run_at[p >> BLOCK]
    while run_ends[run] <= p:
        run += 1
    return run_counts[run]


@lean_kernel
def find_spelling(corpus: Corpus, at: Any, n: Any) -> Any:
    """The slot of the token spelled ``text[at : at + n]``, or the free one where it belongs."""
    text, slots = corpus.text, corpus.by_spelling
    hashed = np.uint64(n)
    for i in range(at, at + n):
        hashed = (hashed ^ np.uint64(text[i])) * _PRIME
    slot = np.int64(hashed >> _32) & (slots.size - 1)
    while slots[slot] != NOTHING:
        id_ = slots[slot]
        if corpus.lengths[id_] == n and same_text(text, corpus.spelled_at[id_], at, n):
            break
        slot = (slot + 1) & (slots.size - 1)
    return slot


@lean_kernel
def same_text(text: Any, a: Any, b: Any, n: Any) -> Any:
    """Whether ``n`` bytes from ``a`` on are those from ``b`` on."""
    for i in range(n):  # noqa: SIM110
        if text[a + i] != text[b + i]:
            return False
    return True
