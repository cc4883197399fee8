"""The pieces of a SentencePiece vocabulary and its settings, and what they must not contradict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.texts import check_text

UNKNOWN_SURFACE = " ⁇ "
LONGEST_PIECE = 8000
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Kind(IntEnum):
    """What a piece is for; the numbers are those of the file formats."""

    NORMAL = 1
    UNKNOWN = 2
    """Stands for any character that no piece spells."""
    CONTROL = 3
    """Marks a place; never found in a text."""
    USER_DEFINED = 4
    """Found wherever its text stands."""
    UNUSED = 5
    """Keeps its id, but is never found."""
    BYTE = 6
    """One byte of a character that no piece spells, written ``<0x0A>``."""


FOUND_IN_TEXT = frozenset({Kind.NORMAL, Kind.USER_DEFINED, Kind.UNUSED})
"""Kinds that share one space of names; a control piece may be spelled like one of them."""


class Piece(NamedTuple):
    """One entry of a vocabulary; its id is its place."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class SentencePieceSettings:
    """What besides the pieces decides how a text is cut and joined again.

    Args:
        charsmap: the rules that characters are rewritten by (`CharsMap`); may be empty.
        charsmap_name: what the file calls these rules (``nmt_nfkc``).
        add_dummy_prefix: put a space before the text.
        remove_extra_whitespaces: drop spaces at both ends, and all but one of several.
        escape_whitespaces: write ``▁`` for a space.
        treat_whitespace_as_suffix: a space belongs to the word before it.
        byte_fallback: a character that no piece spells becomes its bytes.
        unknown_surface: the text that an unknown token decodes to.
        bos_piece: the control piece that begins a text.
        eos_piece: the control piece that ends one.
        pad_piece: the control piece that fills a row.
        denormalizer_charsmap: the rules that decoded text is rewritten by; may be empty.
        denormalizer_name: what the file calls these rules.
    """

    charsmap: bytes = b""
    charsmap_name: str = ""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False
    byte_fallback: bool = False
    unknown_surface: str = UNKNOWN_SURFACE
    bos_piece: str = "<s>"
    eos_piece: str = "</s>"
    pad_piece: str = "<pad>"
    denormalizer_charsmap: bytes = b""
    denormalizer_name: str = ""


def piece_byte(text: str) -> int:
    """The value of a byte piece.

    Raises:
        TokenizerError: if ``text`` is not written like ``<0x0A>``.
    """
    match = _BYTE.fullmatch(text)
    if match is None:
        raise TokenizerError(f"{text!r} is no byte piece", cure="They are <0x00> to <0xFF>.")
    return int(match[1], 16)


def byte_piece(value: int) -> str:
    """How the vocabulary writes a byte."""
    return f"<0x{value:02X}>"


def of_kind(kinds: NDArray[np.uint8], kind: Kind) -> list[int]:
    """The ids of the pieces of a kind."""
    return np.flatnonzero(kinds == kind).tolist()


def check_pieces(pieces: Sequence[Piece], texts: Sequence[str], scores: Sequence[float]) -> None:
    """What SentencePiece demands of pieces: looked at all together, and where something is wrong
    one by one.

    Raises:
        TokenizerError: naming the first piece that is wrong.
    """
    joined = "".join(texts)
    sizes = [*map(len, texts)] or [1]
    if not 0 < min(sizes) <= max(sizes) < LONGEST_PIECE // 4 or "\0" in joined:
        _check_texts(pieces)
    check_text(joined)
    finite = np.isfinite(np.fromiter(scores, np.float64, len(scores)))
    if not finite.all():
        wrong = int(np.flatnonzero(~finite)[0])
        raise TokenizerError(f"the score of piece {wrong}, {texts[wrong]!r}, is {scores[wrong]}")
    if len(set(texts)) != len(texts):
        _check_names(pieces)


def check_kinds(kinds: NDArray[np.uint8], settings: SentencePieceSettings) -> None:
    """Whether there are as many unknown pieces and bytes as there have to be.

    Raises:
        TokenizerError: if not.
    """
    unknown = of_kind(kinds, Kind.UNKNOWN)
    if len(unknown) != 1:
        raise TokenizerError(
            f"there are {len(unknown)} unknown pieces: {unknown[:9]}", cure="There has to be one."
        )
    n_bytes = len(of_kind(kinds, Kind.BYTE))
    if n_bytes != 256 * settings.byte_fallback:
        raise TokenizerError(
            f"there are {n_bytes} byte pieces, but byte_fallback is {settings.byte_fallback}",
            cure="There have to be 256 with it, none without it.",
        )


def _check_texts(pieces: Sequence[Piece]) -> None:
    for i, (text, _, kind) in enumerate(pieces):
        n_bytes = len(text.encode(errors="replace"))
        if not 0 < n_bytes < LONGEST_PIECE:
            allowed = f"1 to {LONGEST_PIECE - 1} are allowed"
            raise TokenizerError(f"piece {i} has {n_bytes} bytes: {allowed}")
        if "\0" in text and kind != Kind.UNUSED:
            raise TokenizerError(f"piece {i}, {text!r}, holds a null character")


def _check_names(pieces: Sequence[Piece]) -> None:
    """Pieces found in text have different names; so have the others among themselves."""
    seen: dict[tuple[str, bool], int] = {}
    for i, (text, _, kind) in enumerate(pieces):
        first = seen.setdefault((text, kind in FOUND_IN_TEXT), i)
        if first != i:
            raise TokenizerError(f"pieces {first} and {i} are both {text!r}")
