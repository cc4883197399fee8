"""Lower case, as Unicode 17.0 has it, one character at a time.

Python's `str.lower` looks further in one place: a capital sigma at the end of a word becomes ``ς``.
Here it is ``σ`` everywhere, as in Rust's ``char::to_lowercase``, by which Hugging Face's
``tokenizers`` lowers. Capitals younger than the Unicode of the oldest Python come from a table.
"""

from __future__ import annotations

import re
from functools import cache

from stemma.tokenizers.steps.alignment import Alignment, Edit, align_edits, unchanged
from stemma.tokenizers.unicode.properties import one_of, ranges, young_lowercase

SIGMA = "Σ"
DOTTED_I = "İ"
"""The one capital whose small letter is two characters."""


def lower(text: str) -> str:
    """The text in small letters."""
    if text.isascii() or _special().search(text) is None:
        return text.lower()
    parts = _special().split(text)
    parts[::2] = [part.lower() for part in parts[::2]]
    parts[1::2] = [_lower_special(character) for character in parts[1::2]]
    return "".join(parts)


def align(text: str) -> tuple[str, Alignment]:
    """`lower`, and for each character of the result the characters ``start:end`` of ``text``."""
    if DOTTED_I not in text:
        return lower(text), unchanged(0, len(text))
    edits: list[Edit] = [
        (i, i + 1, lowered)
        for i, character in enumerate(text)
        if (lowered := lower(character)) != character
    ]
    return align_edits(text, edits)


def _lower_special(character: str) -> str:
    return "σ" if character == SIGMA else young_lowercase().get(ord(character), character)


@cache
def _special() -> re.Pattern[str]:
    sigma = (ord(SIGMA), ord(SIGMA))
    return re.compile(f"({one_of([sigma, *ranges('Unassigned_14')])})")
