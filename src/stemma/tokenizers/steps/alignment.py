"""Changing a text while remembering which characters of it each new character stands for.

A change is a list of edits ``(start, end, new)``: the characters ``start:end`` become ``new``. What
no edit names stays. Every character of ``new`` stands for all of ``start:end``; one that is only
inserted (``start == end``) stands for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Edit = tuple[int, int, str]
"""The characters ``start:end`` of a text become a new string. Edits rise and do not overlap."""

Alignment = list[tuple[int, int]]
"""For each character of a new text the characters ``start:end`` of the old one; both rise."""


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text after the edits."""
    parts = []
    done = 0
    for start, end, new in edits:
        parts += [text[done:start], new]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def align_edits(text: str, edits: Iterable[Edit]) -> tuple[str, Alignment]:
    """The text after the edits, and what each of its characters stands for."""
    edits = list(edits)
    alignment: Alignment = []
    done = 0
    for start, end, new in edits:
        alignment += unchanged(done, start)
        alignment += [(start, end)] * len(new)
        done = end
    alignment += unchanged(done, len(text))
    return apply_edits(text, edits), alignment


def unchanged(start: int, end: int) -> Alignment:
    """The alignment of characters that stay as they are."""
    return [(i, i + 1) for i in range(start, end)]


def through(first: Alignment, second: Alignment, n_characters: int) -> Alignment:
    """The alignment of two changes, one after the other.

    What is inserted within that which one character became stands for this character.

    Args:
        first: of the text between to the text as given.
        second: of the last text to the text between.
        n_characters: length of the text as given.
    """
    starts = [start for start, _ in first] + [n_characters]
    ends = [0] + [end for _, end in first]
    return [(starts[start], max(ends[end], starts[start])) for start, end in second]


def rising(sources: Sequence[tuple[int, int]]) -> Alignment:
    """Sources of characters, some of which changed places, widened until starts and ends rise."""
    starts = [start for start, _ in sources]
    ends = [end for _, end in sources]
    for i in range(len(starts) - 2, -1, -1):
        starts[i] = min(starts[i], starts[i + 1])
    for i in range(1, len(ends)):
        ends[i] = max(ends[i], ends[i - 1])
    return list(zip(starts, ends, strict=True))
