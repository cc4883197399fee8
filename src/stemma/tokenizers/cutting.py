"""Where a long text may be cut: so that its stretches, encoded one by one, have its ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from operator import add
from typing import NamedTuple, Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")

AROUND = 8
"""Characters on each side of a place that tell what a normaliser does there."""

_LOOKED_AT = 256
"""Characters among which the last place for a cut is looked for at once."""

_BEFORE_SPACE = re.compile(r"(?<=\S)[ \n\t▁]")


class Stretch(NamedTuple):
    """A part of a longer text.

    Args:
        text: the part.
        before: the character before it; empty at the beginning of the text.
        last: whether it ends the text.
    """

    text: str
    before: str
    last: bool


class InTurn(Protocol):
    """`map`, or that of a pool of threads."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterable[B]:
        """What the function gives for each item, in their order."""


def last_edge(text: str, before: int, is_edge: Callable[[str], bool]) -> int:
    """The last place up to ``before`` between two characters that ``is_edge`` accepts, or 0.

    Args:
        text: the text.
        before: where to begin to look, towards the start.
        is_edge: asked about two neighbours, once in a while for the same two.
    """
    while before > 0:
        start = max(before - _LOOKED_AT, 0)
        block = text[start : before + 1]
        edges = filter(is_edge, {*map(add, block, block[1:])})
        found = max(map(block.rindex, edges), default=-1)
        if found >= 0:
            return start + found + 1
        before = start
    return 0


def before_spaces(text: str, before: int) -> Iterator[int]:
    """The places up to ``before``, from there back, between a visible character and a space."""
    while before > 0:
        start = max(before - _LOOKED_AT, 0)
        found = _BEFORE_SPACE.finditer(text[start : before + 1])
        yield from [start + match.start() for match in found][::-1]
        before = start


def neighbours(texts: Iterable[str]) -> frozenset[str]:
    """All two characters that stand side by side in one of the texts."""
    return frozenset(pair for text in texts for pair in map(add, text, text[1:]))
