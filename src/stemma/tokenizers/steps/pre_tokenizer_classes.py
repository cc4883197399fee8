"""Which characters Hugging Face's pre-tokenisers take for spaces, digits, punctuation.

Each of them follows the Unicode version of the library it was written with; the tests compare with
``tokenizers`` 0.23 on every code point. What the functions give stands in brackets of a pattern.
"""

from __future__ import annotations

from functools import cache

from stemma.tokenizers.unicode.classes import (
    Range,
    complement,
    in_brackets,
    intersection,
    ranges,
    union,
)

_ASCII_PUNCTUATION = ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E))
_PUNCTUATION_BEFORE_UNICODE_9 = ((0x166D, 0x166D), (0x111C9, 0x111C9))
_PUNCTUATION_SINCE_UNICODE_9 = """
61D 9FD A76 C77 C84 1B4E-1B4F 1B7D-1B7F 2E43-2E4F 2E52-2E5D 10D6E 10EAD 10F55-10F59 10F86-10F89
113D4-113D5 113D7-113D8 1144B-1144F 1145A-1145B 1145D 11660-1166C 116B9 1183B 11944-11946 119E2
11A3F-11A46 11A9A-11A9C 11A9E-11AA2 11B00-11B09 11BE1 11C41-11C45 11C70-11C71 11EF7-11EF8
11F43-11F4F 11FFF 12FF1-12FF2 16D6D-16D6F 16E97-16E9A 16FE2 1E5FF 1E95E-1E95F
"""
_NUMBERS_SINCE_UNICODE_17 = ((0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6))


@cache
def spaces() -> str:
    """White space."""
    return in_brackets(ranges("White_Space"))


@cache
def word_characters() -> str:
    """Letters, marks, digits and the underscore."""
    return in_brackets(ranges("Word"))


@cache
def digits() -> str:
    """Numbers of every kind, of Unicode 17."""
    return in_brackets(union(ranges("N"), _NUMBERS_SINCE_UNICODE_17))


@cache
def punctuation() -> str:
    """Punctuation, see `punctuation_ranges`."""
    return in_brackets(punctuation_ranges())


@cache
def punctuation_ranges() -> tuple[Range, ...]:
    """What ASCII calls punctuation (``$`` and ``^`` too), and what Unicode 8 did."""
    later = [_range(part) for part in _PUNCTUATION_SINCE_UNICODE_9.split()]
    old = intersection(ranges("P"), complement(later))
    return union(old, _ASCII_PUNCTUATION, _PUNCTUATION_BEFORE_UNICODE_9)


def _range(part: str) -> Range:
    first, _, last = part.partition("-")
    return int(first, 16), int(last or first, 16)
