"""Extended grapheme clusters: what a reader takes for one character.

``é`` may be two code points, a Tamil syllable three, a family of emoji seven; a cut inside one is a
cut inside a letter. The rules are those of UAX #29 (Unicode 17.0), "Unicode Text Segmentation",
section 3.1.1. They are written down here twice: as a state machine that walks along the text and
asks at every place whether a cluster ends (`boundaries`), and as one regular expression for a whole
cluster (`clusters`), which says the same and is some ten times as fast.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache

from stemma.tokenizers.unicode.classes import Range, complement, intersection, union
from stemma.tokenizers.unicode.properties import one_of, ranges, with_property

ZWJ = "\u200d"
"""ZERO WIDTH JOINER binds two pictographs."""

_KINDS = (
    "Control",
    "Extend",
    "Regional_Indicator",
    "Prepend",
    "SpacingMark",
    "L",
    "V",
    "T",
    "LV",
    "LVT",
    "Extended_Pictographic",
)
"""What a character may be to a cluster; no character is two of these."""

_LINE_ENDS = ((10, 10), (13, 13))

_JOINS_NEXT = {  # GB6, GB7, GB8: Hangul syllables are spelled of L, V and T
    "L": {"L", "V", "LV", "LVT"},
    "LV": {"V", "T"},
    "V": {"V", "T"},
    "LVT": {"T"},
    "T": {"T"},
}


def boundaries(text: str) -> Iterator[int]:
    """The places where a cluster ends, in characters; the readable form of `clusters`.

    What a place depends on, beyond the characters beside it, is kept while walking: how many
    regional indicators stand before it, whether a pictograph and marks do (then a ZWJ binds another
    one), and whether an Indic consonant and its marks do (then a virama among them binds another
    one).
    """
    before = "start"
    indicators = 0
    pictograph = False
    consonant, linked = False, False
    for at, character in enumerate(text):
        kind = _kind(character)
        conjunct = _conjunct(character)
        if at and not _joined(
            before,
            kind,
            odd_indicators=indicators % 2 == 1,
            after_pictograph=pictograph,
            after_conjunct=linked and conjunct == "Consonant",
        ):
            yield at
        indicators = indicators + 1 if kind == "Regional_Indicator" else 0
        pictograph = kind == "Extended_Pictographic" or (
            pictograph and before != "ZWJ" and kind in ("Extend", "ZWJ")
        )
        linked = consonant and (conjunct == "Linker" or (linked and conjunct == "Extend"))
        consonant = conjunct == "Consonant" or (consonant and conjunct != "None")
        before = kind
    if text:
        yield len(text)


def _joined(
    before: str, kind: str, *, odd_indicators: bool, after_pictograph: bool, after_conjunct: bool
) -> bool:
    """Whether two neighbours belong to one cluster."""
    if before == "CR" and kind == "LF":  # GB3
        return True
    if {before, kind} & {"CR", "LF", "Control"}:  # GB4, GB5
        return False
    return (
        kind in _JOINS_NEXT.get(before, ())  # GB6, GB7, GB8
        or kind in ("Extend", "ZWJ", "SpacingMark")  # GB9, GB9a
        or before == "Prepend"  # GB9b
        or after_conjunct  # GB9c
        or (before == "ZWJ" and after_pictograph and kind == "Extended_Pictographic")  # GB11
        or (kind == "Regional_Indicator" and odd_indicators)  # GB12, GB13
    )


def clusters(text: str) -> list[str]:
    """The extended grapheme clusters of a text; joined, they are the text.

    ``clusters("கொடு🇮🇳")`` gives ``["கொ", "டு", "🇮🇳"]``.
    """
    return _pattern().findall(text)


def joins(text: str) -> int | None:
    """The place of the first character that may belong to one cluster with a neighbour.

    If there is none, every character is a cluster.
    """
    found = _joining().search(text)
    return None if found is None else found.start()


@cache
def _pattern() -> re.Pattern[str]:
    """One cluster, as in Table 1c of UAX #29.

    ``*+`` gives nothing back: where it stands, giving back could not find another match, and a long
    run of marks is read once.
    """

    extend, linker = with_property("Conjunct_Extend"), with_property("Conjunct_Linker")
    either = with_property("Conjunct_Extend", "Conjunct_Linker")
    consonant = with_property("Conjunct_Consonant")
    pictograph, indicator = map(with_property, ("Extended_Pictographic", "Regional_Indicator"))
    l, v, t, lv, lvt = map(with_property, ("L", "V", "T", "LV", "LVT"))  # noqa: E741
    core = "|".join(
        [
            f"{consonant}(?:{extend}*+{linker}{either}*+{consonant})*",
            f"{l}*(?:(?:{lv}|{v}){v}*|{lvt}){t}*",
            f"{l}+",
            f"{t}+",
            indicator * 2,
            f"{pictograph}(?:{with_property('Extend')}*+{ZWJ}{pictograph})*",
            one_of(complement(union(_LINE_ENDS, ranges("Control")))),
        ]
    )
    mark = one_of([*ranges("Extend"), *ranges("SpacingMark"), (ord(ZWJ), ord(ZWJ))])
    # Most characters stand alone, which is seen by looking at the next one.
    alone = intersection(complement(_joining_characters()), [(0, 0xFFFF)])
    single = f"{one_of(alone)}(?={one_of(alone)}|\\Z)"
    prepend = with_property("Prepend")
    return re.compile(f"\r\n|{single}|{prepend}*(?:{core}){mark}*+|(?s:.)")


@cache
def _joining() -> re.Pattern[str]:
    return re.compile(one_of(_joining_characters()) + "|\r\n")


@cache
def _joining_characters() -> tuple[Range, ...]:
    """What may belong to one cluster with the character before or after it, whatever that is."""
    names = ("Extend", "Regional_Indicator", "Prepend", "SpacingMark", "L", "V", "T")
    return union(*map(ranges, names), [(ord(ZWJ), ord(ZWJ))])


@cache
def _starts() -> tuple[list[int], list[str]]:
    """Where stretches of characters of one kind begin, and the kinds."""
    return _stretches(_KINDS, "Other")


@cache
def _conjunct_starts() -> tuple[list[int], list[str]]:
    names = ("Conjunct_Consonant", "Conjunct_Extend", "Conjunct_Linker")
    starts, kinds = _stretches(names, "None")
    return starts, [kind.removeprefix("Conjunct_") for kind in kinds]


def _stretches(names: tuple[str, ...], other: str) -> tuple[list[int], list[str]]:
    kinds = {0: other}
    members = sorted((first, last, name) for name in names for first, last in ranges(name))
    for first, last, name in members:
        kinds[first] = name
        kinds[last + 1] = other
    return list(kinds), list(kinds.values())


@cache
def _kind(character: str) -> str:
    """The character's Grapheme_Cluster_Break, or ``Extended_Pictographic``, or ``Other``."""
    if character in "\r\n":
        return "CR" if character == "\r" else "LF"
    if character == ZWJ:
        return "ZWJ"
    starts, kinds = _starts()
    return kinds[bisect_right(starts, ord(character)) - 1]


@cache
def _conjunct(character: str) -> str:
    """The character's Indic_Conjunct_Break: ``Consonant``, ``Linker``, ``Extend`` or ``None``."""
    starts, kinds = _conjunct_starts()
    return kinds[bisect_right(starts, ord(character)) - 1]
