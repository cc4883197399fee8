"""Many texts, or one larger than memory, encoded on several threads.

Threads gain time where a family's kernels, which do not hold Python's lock, do the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from operator import contains
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.cutting import AROUND, Stretch
from stemma.tokenizers.special import AllowedSpecial
from stemma.tokenizers.texts import check_documents, check_text

if TYPE_CHECKING:
    from stemma.tokenizers.tokenizer import Tokenizer

STREAMED = 1 << 17
"""Characters that a thread encodes at once when a text comes in pieces."""

LEAST_FOR_A_THREAD = 1 << 16
"""Characters of text for which another thread is worth its start."""


def encode_batch(
    tokenizer: Tokenizer, texts: Iterable[str], allowed: AllowedSpecial, threads: int | None
) -> list[NDArray[np.int32]]:
    """`Tokenizer.encode_batch`, without the template."""
    rows = list(check_documents(texts))
    n_threads = _threads(threads)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            return _encode_groups(tokenizer, _even_groups(rows, n_threads), allowed, pool)
    except (TokenizerError, TypeError):
        _name_the_text(rows)
        raise


def _encode_groups(
    tokenizer: Tokenizer,
    groups: Sequence[Sequence[str]],
    allowed: AllowedSpecial,
    pool: ThreadPoolExecutor,
) -> list[NDArray[np.int32]]:
    """Ids of each text; a group to a thread, but one by itself is encoded here."""
    in_turn = map if len(groups) < 2 else pool.map
    found = in_turn(lambda group: tokenizer._encode_texts(group, allowed), groups)
    return [row for group in found for row in group]


def _name_the_text(texts: Sequence[str]) -> None:
    """An error that says which of several texts is none, or cannot be encoded."""
    for i, text in enumerate(texts):
        try:
            check_text(text)
        except TokenizerError as error:
            raise TokenizerError(error.what, where=f"text {i}", cure=error.cure) from None


def encode_chunks(
    tokenizer: Tokenizer, chunks: Iterable[str], allowed: AllowedSpecial, threads: int | None
) -> Iterator[NDArray[np.int32]]:
    """`Tokenizer.encode_chunks`."""
    n_threads = _threads(threads)
    names = tokenizer._added.allowed(allowed)
    batches = _batches(tokenizer, chunks, names, n_threads)
    with ThreadPoolExecutor(n_threads) as pool:
        in_turn = map if n_threads == 1 else pool.map
        yield from tokenizer._encode_stretches(batches, names, in_turn)


def _batches(
    tokenizer: Tokenizer, chunks: Iterable[str], names: frozenset[str], n_threads: int
) -> Iterator[list[Stretch]]:
    """The stretches of a text, as many at once as there are threads."""
    held: list[str] = []
    size = 0
    before = ""
    wanted = STREAMED * n_threads
    for chunk in chunks:
        check_text(chunk)
        held.append(chunk)
        size += len(chunk)
        if size < wanted:
            continue
        text = "".join(held)
        cut = _safe_cut(tokenizer, text, len(text), names)
        if cut:
            yield _stretches(tokenizer, Stretch(text[:cut], before, False), names, n_threads)
            before = text[cut - 1]
            held, size, wanted = [text[cut:]], len(text) - cut, STREAMED * n_threads
        else:
            held, wanted = [text], 2 * size  # look again when as much has come once more
    yield _stretches(tokenizer, Stretch("".join(held), before, True), names, n_threads)


def _stretches(
    tokenizer: Tokenizer, whole: Stretch, names: frozenset[str], n_threads: int
) -> list[Stretch]:
    """A stretch, cut for several threads where that changes nothing."""
    text, before, last = whole
    cuts = {0}
    if len(text) >= n_threads * LEAST_FOR_A_THREAD:
        for i in range(1, n_threads):
            cuts.add(_safe_cut(tokenizer, text, len(text) * i // n_threads, names))
    return [
        Stretch(text[a:b], text[a - 1] if a else before, last and b == len(text))
        for a, b in pairwise([*sorted(cuts), len(text)])
    ]


def _safe_cut(tokenizer: Tokenizer, text: str, before: int, names: frozenset[str]) -> int:
    """The last place up to ``before`` where ``text`` may be cut; 0 if none is known.

    None of the added tokens in ``names`` may touch it, found or hidden by another one; nor may one
    that ends behind the text.
    """
    longest = max(map(len, names), default=0)
    before = min(before, len(text) - longest)
    while before > 0 and (cut := tokenizer._cut(text, before)):
        start = max(cut - longest, 0)
        window = text[start : cut + longest]
        found = [
            part
            for normalized in (False, True)
            for part, a, b in tokenizer._added.split(window, names, normalized=normalized)
            if isinstance(part, int) and a <= cut - start <= b
        ]
        around = (text[max(cut - len(name), 0) : cut + len(name)] for name in names)
        apart = not found and not any(map(contains, around, names))
        if apart and not _touched_later(tokenizer, text, cut, names):
            return cut
        before = cut - 1
    return 0


def _touched_later(tokenizer: Tokenizer, text: str, cut: int, names: frozenset[str]) -> bool:
    """Whether a token may touch the place that the text as given does not show.

    One that is sought in the normalised text, or that takes white space along.
    """
    tokens = [tokenizer._added.by_content[name] for name in names]
    if text[cut - 1].isspace() and any(token.lstrip or token.rstrip for token in tokens):
        return True
    later = [token.content for token in tokens if token.normalized]
    if tokenizer.normalizer is None or not later:
        return False
    sides = tokenizer.normalizer.edge(text[max(cut - AROUND, 0) : cut], text[cut : cut + AROUND])
    if sides is None or not sides[0]:
        return True
    left, right = sides[0][-1], sides[1][0]
    return any(c.endswith(left) or c.startswith(right) or left + right in c for c in later)


def _threads(wanted: int | None) -> int:
    if wanted is not None and wanted < 1:
        raise TokenizerError(f"threads={wanted}", cure="Use at least one thread.")
    return wanted or os.cpu_count() or 1


def _even_groups(texts: Sequence[str], n_groups: int) -> list[Sequence[str]]:
    """Neighbouring texts in up to ``n_groups`` groups of about the same length, none small."""
    total = sum(map(len, texts))
    n_groups = max(min(n_groups, len(texts), total // LEAST_FOR_A_THREAD), 1)
    if n_groups == 1:
        return [texts]
    done = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    ends = np.searchsorted(done, total * np.arange(1, n_groups) / n_groups) + 1
    return [texts[start:end] for start, end in pairwise([0, *ends.tolist(), len(texts)])]
