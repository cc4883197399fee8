"""What BERT's steps make of each character, as tables for the kernel.

BERT's normaliser and its pre-tokeniser look at one character at a time: of each they make the same
wherever it stands, but for one thing. Where letters are decomposed, marks that are not dropped may
change places with one another; words with several of these are left to the readable way.

The tables are filled where a text asks for them, by the normaliser itself.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.kernels import wordpiece as kernel
from stemma.tokenizers.steps.normalizers import BertNormalizer
from stemma.tokenizers.steps.pre_tokenizer_classes import punctuation_ranges
from stemma.tokenizers.unicode.classes import LAST, characters, ranges

BLOCK = 1 << 12
"""So many code points are filled in at once."""

_BETWEEN = "0"
"""Stands between characters that are normalised together: nothing else becomes it."""

_NOTHING = 1
"""Where among the new spellings the empty one stands."""

_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True)
class Tables:
    """What each code point is, and what is written for it: see `kernels.wordpiece.encode`."""

    kinds: NDArray[np.uint8]
    places: NDArray[np.int32]
    new: NDArray[np.uint8]
    letters: NDArray[np.uint8]


class Characters:
    """Tables that grow; may be used from several threads.

    Args:
        normalizer: what is done to a text before `BertPreTokenizer` cuts it.
    """

    def __init__(self, normalizer: BertNormalizer | None) -> None:
        self._normalizer = normalizer
        self._lock = Lock()
        self.tables = Tables(
            np.zeros(LAST + 1, np.uint8),
            np.zeros(LAST + 1, np.int32),
            np.frombuffer(bytes(2), np.uint8),
            np.zeros(256, np.uint8),
        )
        self.fill(0)

    def fill(self, code: int) -> None:
        """Replace the tables by some that know a code point; the old ones stay as they are."""
        with self._lock:
            old = self.tables
            if old.kinds[code] != kernel.UNSEEN:
                return
            kinds, places, new = old.kinds.copy(), old.places.copy(), bytearray(old.new)
            first = code - code % BLOCK
            kinds[first : first + BLOCK] = kernel.PART
            for c, normalized in enumerate(self._normalized(first), first):
                if not normalized:
                    places[c] = _NOTHING
                    continue
                kinds[c], spelling = self._meaning(normalized)
                if spelling != chr(c):
                    places[c] = len(new)
                    data = spelling.encode()
                    new += bytes([len(data)]) + data
            letters = _letters(kinds, places, new) if first == 0 else old.letters
            self.tables = Tables(kinds, places, np.frombuffer(bytes(new), np.uint8), letters)

    def _normalized(self, first: int) -> list[str]:
        """What the normaliser makes of each code point of a block (of surrogates: nothing)."""
        characters = ["" if c in _SURROGATES else chr(c) for c in range(first, first + BLOCK)]
        if self._normalizer is None:
            return characters
        if first == 0:
            characters.remove(_BETWEEN)
        normalized = self._normalizer(_BETWEEN.join(characters)).split(_BETWEEN)
        if first == 0:
            normalized.insert(ord(_BETWEEN), _BETWEEN)
        return normalized

    def _meaning(self, normalized: str) -> tuple[int, str]:
        """The kind of a character, and what it adds to its word."""
        spelling = normalized.strip(_spaces())
        if not spelling:
            return kernel.SPACE, ""
        if spelling != normalized or spelling in _punctuation():
            return kernel.ALONE, spelling
        moves = self._decomposes and any(map(unicodedata.combining, spelling))
        return kernel.MARK if moves else kernel.PART, spelling

    @cached_property
    def _decomposes(self) -> bool:
        chosen = self._normalizer
        if chosen is None:
            return False
        return chosen.lowercase if chosen.strip_accents is None else chosen.strip_accents


@cache
def characters_of(normalizer: BertNormalizer | None) -> Characters:
    """The tables for a normaliser, which all tokenizers share."""
    return Characters(normalizer)


def _letters(
    kinds: NDArray[np.uint8], places: NDArray[np.int32], new: bytearray
) -> NDArray[np.uint8]:
    letters = np.zeros(256, np.uint8)
    for byte in range(128):
        place = places[byte]
        if kinds[byte] == kernel.PART and (place == 0 or new[place] == 1):
            letter = new[place + 1] if place else byte
            letters[byte] = letter if letter > kernel.ENDS_WORD else 0
        elif kinds[byte] <= kernel.ALONE:
            letters[byte] = kernel.ENDS_WORD
    return letters


@cache
def _spaces() -> str:
    return "".join(characters(ranges("White_Space")))


@cache
def _punctuation() -> frozenset[str]:
    return characters(punctuation_ranges())
