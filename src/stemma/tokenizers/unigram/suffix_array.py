"""Suffix arrays: all suffixes of a text in sorted order, and with them all its repeats.

Suffixes that begin alike stand together in sorted order, so that whatever occurs more than once is
a run of neighbours: a suffix array counts all substrings of a text at once (Manber and Myers 1993,
"Suffix arrays: a new method for on-line string searches").

`sorted_suffixes` and `shared_lengths` say what is meant; `suffix_array` and `common_prefixes` give
the same in O(n log² n) and O(n) at worst, be the text one letter a million times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_KEY_BITS = 62
"""Bits of a sort key: it is an int64, and neither its sign nor its top is needed."""


def sorted_suffixes(symbols: Sequence[int]) -> list[int]:
    """Where each suffix begins, in sorted order; the readable form, O(n² log n) at worst."""
    return sorted(range(len(symbols)), key=lambda start: list(symbols[start:]))


def shared_lengths(symbols: Sequence[int], order: Sequence[int]) -> list[int]:
    """How many symbols each suffix in ``order`` shares with the one before it (the first: 0)."""
    lengths = [0] * min(len(order), 1)
    for one, other in pairwise(order):
        shared = 0
        while max(one, other) + shared < len(symbols) and (
            symbols[one + shared] == symbols[other + shared]
        ):
            shared += 1
        lengths.append(shared)
    return lengths


def suffix_array(symbols: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each suffix begins, in sorted order; of two, one that begins the other comes first.

    Prefix doubling: sort by the first few symbols; then two suffixes that share their first h
    symbols compare as the suffixes h further on do, whose places in the order so far are known.
    Only those not told apart yet are sorted again, so that prose takes two or three rounds.

    Args:
        symbols: the text, integers >= 0, of shape (n,).
    """
    n = len(symbols)
    if n == 0:
        return np.empty(0, np.int64)
    keys, h = _first_keys(symbols)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts_group = np.ones(n, bool)  # in the order: differs from the one before it
    starts_group[1:] = keys[1:] != keys[:-1]
    rank = np.empty(n + 1, np.int64)  # of each suffix: where its group begins
    rank[n] = -1  # the empty suffix comes before all
    while True:
        group = np.maximum.accumulate(np.where(starts_group, np.arange(n), 0))
        rank[order] = group
        alone = starts_group & np.append(starts_group[1:], True)
        tied = np.flatnonzero(~alone)
        if tied.size == 0:
            return order
        suffixes = order[tied]
        keys = group[tied] * (n + 1) + rank[np.minimum(suffixes + h, n)] + 1
        again = np.argsort(keys, kind="stable")
        order[tied] = suffixes[again]
        keys = keys[again]
        starts_group[tied[1:]] = keys[1:] != keys[:-1]
        h *= 2


def _first_keys(symbols: NDArray[np.integer]) -> tuple[NDArray[np.int64], int]:
    """The first h symbols of every suffix as one number, and h: as many as an int64 holds."""
    n = len(symbols)
    bits = (int(symbols.max()) + 1).bit_length()
    h = max(_KEY_BITS // bits, 1)
    padded = np.zeros(n + h, np.int64)  # 0: no symbol, less than all
    padded[:n] = symbols
    padded[:n] += 1
    keys = np.zeros(n, np.int64)
    for i in range(h):
        keys = keys << bits | padded[i : i + n]
    return keys, h


def common_prefixes(symbols: NDArray[np.integer], order: NDArray[np.int64]) -> NDArray[np.int32]:
    """`shared_lengths` in O(n) by machine code (Kasai et al. 2001).

    If the suffix at i shares h symbols with the one before it in the order, then the suffix at
    i + 1 shares at least h - 1 with the one before itself: these need not be compared again.

    Args:
        symbols: the text, of shape (n,).
        order: its suffix array.
    """
    from stemma.tokenizers.kernels.suffix_array import kasai

    lengths: NDArray[np.int32] = kasai(symbols.astype(np.int32), order)
    return lengths
