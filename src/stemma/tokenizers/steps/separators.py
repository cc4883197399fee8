"""Cutting a text at separators: what becomes of the separators themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

Behavior = Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
"""What becomes of a separator: left out, a word by itself, part of the word before or after it, or
one word with the separators beside it."""

Span = tuple[int, int]

Piece = tuple[int, int, bool]
"""Characters ``start:end`` of a word, and whether they are a separator."""


def _removed(pieces: Iterable[Piece]) -> Iterator[Span]:
    return ((start, end) for start, end, separator in pieces if not separator)


def _isolated(pieces: Iterable[Piece]) -> Iterator[Span]:
    return ((start, end) for start, end, _ in pieces)


def _merged_with_previous(pieces: Iterable[Piece]) -> Iterator[Span]:
    """A separator joins what is before it, unless that is a separator too."""
    spans: list[Span] = []
    after_separator = False
    for start, end, separator in pieces:
        if separator and not after_separator and spans:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
        after_separator = separator
    return iter(spans)


def _merged_with_next(pieces: Iterable[Piece]) -> Iterator[Span]:
    mirrored = [(-end, -start, separator) for start, end, separator in pieces]
    spans = list(_merged_with_previous(reversed(mirrored)))
    return ((-end, -start) for start, end in reversed(spans))


def _contiguous(pieces: Iterable[Piece]) -> Iterator[Span]:
    for _, run in groupby(pieces, key=itemgetter(2)):
        found = list(run)
        yield found[0][0], found[-1][1]


BEHAVIORS: dict[Behavior, Callable[[Iterable[Piece]], Iterator[Span]]] = {
    "Removed": _removed,
    "Isolated": _isolated,
    "MergedWithPrevious": _merged_with_previous,
    "MergedWithNext": _merged_with_next,
    "Contiguous": _contiguous,
}
"""The words that each of them makes of separators and what lies between them."""


def pieces(text: str, pattern: Any) -> list[Piece]:
    """The matches of a pattern, which are separators, and what lies between them.

    No match is empty right behind another match: the search goes on one character further.
    """
    found: list[Piece] = []
    done = at = 0
    while at <= len(text) and (match := pattern.search(text, at)):
        start, end = match.span()
        if start == end == done and found:
            at = done + 1
            continue
        if start > done:
            found.append((done, start, False))
        found.append((start, end, True))
        done = at = end
    if done < len(text):
        found.append((done, len(text), False))
    return found
