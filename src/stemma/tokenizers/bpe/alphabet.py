"""GPT-2's alphabet: one visible character for each byte, so that tokens can stand in text files.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": the 188 bytes that are
visible characters of Latin-1 stand for themselves, the 68 others (the space among them) for the
characters from U+0100 on. The space is ``Ġ``, the newline ``Ċ``.
"""

from __future__ import annotations

_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [value for value in range(256) if value not in _VISIBLE]

BYTE_ORDER = bytes(_VISIBLE + _HIDDEN)
"""The byte that each of GPT-2's first 256 ids spells: in the order of the characters."""

_CHARACTERS = {value: chr(value) for value in _VISIBLE} | {
    value: chr(0x100 + i) for i, value in enumerate(_HIDDEN)
}
_TO_VISIBLE = str.maketrans({chr(value): character for value, character in _CHARACTERS.items()})
_TO_LATIN_1 = str.maketrans({character: chr(value) for value, character in _CHARACTERS.items()})
_HIDDEN_LATIN_1 = {chr(value) for value in _HIDDEN}


def to_visible(token: bytes) -> str:
    """``b" the"`` -> ``"Ġthe"``."""
    return token.decode("latin-1").translate(_TO_VISIBLE)


def from_visible(text: str) -> bytes | None:
    """``"Ġthe"`` -> ``b" the"``; None if a character is not of the alphabet."""
    if not _HIDDEN_LATIN_1.isdisjoint(text):
        return None
    try:
        return text.translate(_TO_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return None
