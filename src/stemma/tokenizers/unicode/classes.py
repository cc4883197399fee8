r"""Which characters are letters, numbers, spaces, Han ...: Unicode 16.0, the version tiktoken has.

Which characters are letters changes with every version of Unicode, and with it the ids. Hence a
table of our own (``classes.txt``, built by ``scripts/build_unicode_classes.py``), and not the
tables of whatever Python or library is installed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

LAST = 0x10FFFF
"""The highest code point."""

Range = tuple[int, int]
"""Code points from the first to the second, both included."""


_GROUPS = {
    "C": ("Cc", "Cf", "Cn", "Co", "Cs"),
    "LC": ("Lu", "Ll", "Lt"),
    "Word": ("Alphabetic", "M", "Nd", "Pc", "Join_Control"),
}


@cache
def ranges(name: str) -> tuple[Range, ...]:
    r"""The characters of a class, as ranges that rise and do not touch.

    Args:
        name: a general category (``Lu``) or group of them (``L``, ``M``, ``N``, ``P``, ``S``,
            ``Z``, ``C``, ``LC``), ``White_Space``, ``Alphabetic``, ``Word`` (what ``\w`` finds), or
            a script (``Han``).

    Raises:
        KeyError: if there is no such class.
    """
    if name in _GROUPS:
        return union(*map(ranges, _GROUPS[name]))
    if name == "Any":
        return ((0, LAST),)
    if name == "Cn":
        return complement(union(*map(ranges, (*_categories(), "Cs"))))
    if name == "Cs":
        return ((0xD800, 0xDFFF),)
    if name in ("L", "M", "N", "P", "S", "Z"):
        return union(*(ranges(category) for category in _categories() if category[0] == name))
    return tuple(_read_range(part) for part in _rows()[name].split(" "))


def character_class(*names: str) -> str:
    r"""The characters of these classes, to stand in brackets of a pattern of Python's ``re``."""
    return in_brackets(union(*map(ranges, names)))


def in_brackets(members: Iterable[Range]) -> str:
    """Ranges of code points as they stand in brackets of a pattern of Python's ``re``."""
    return "".join("-".join(f"\\U{end:08x}" for end in dict.fromkeys(ends)) for ends in members)


def union(*sets: Iterable[Range]) -> tuple[Range, ...]:
    """The characters that are in any of the sets."""
    merged: list[Range] = []
    for first, last in sorted(one for members in sets for one in members):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(members: Iterable[Range]) -> tuple[Range, ...]:
    """The characters that are not in the set (whose ranges rise and do not touch)."""

    def gaps() -> Iterator[Range]:
        following = 0
        for first, last in members:
            if first > following:
                yield following, first - 1
            following = last + 1
        if following <= LAST:
            yield following, LAST

    return tuple(gaps())


def intersection(*sets: Iterable[Range]) -> tuple[Range, ...]:
    """The characters that are in all of the sets."""
    return complement(union(*(complement(members) for members in sets)))


def contains(members: Sequence[Range], code: int) -> bool:
    """Whether a code point is in the set (whose ranges rise)."""
    i = bisect_right(members, (code, LAST))
    return i > 0 and code <= members[i - 1][1]


def characters(members: Iterable[Range]) -> frozenset[str]:
    """The characters of ranges, one by one."""
    return frozenset(chr(code) for first, last in members for code in range(first, last + 1))


@cache
def scripts() -> tuple[str, ...]:
    """The names of all scripts."""
    others = {*_categories(), "White_Space", "Alphabetic", "Join_Control"}
    return tuple(name for name in _rows() if name not in others)


@cache
def _categories() -> tuple[str, ...]:
    return tuple(name for name in _rows() if len(name) == 2 and name[1].islower())


@cache
def _rows() -> dict[str, str]:
    table = Path(__file__).with_name("classes.txt").read_text("ascii")
    lines = [line.split(" ", 1) for line in table.splitlines() if not line.startswith("#")]
    return dict(lines)


def _read_range(part: str) -> Range:
    first, _, last = part.partition("-")
    return int(first, 16), int(last or first, 16)
