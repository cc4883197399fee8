"""Several tokenizers on one text, in numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.word import UNKNOWN

_BYTE_NAME = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
_UNKNOWN_NAMES = (UNKNOWN, "[UNK]", "<unk>")


@dataclass(frozen=True)
class Measure:
    """How one tokenizer cuts one text. Shares are between 0 and 1.

    Args:
        tokenizer: its name.
        vocab_size: its number of ids.
        tokens: how many tokens the text has.
        bytes_per_token: bytes of the text in UTF-8, over the tokens.
        tokens_per_word: tokens over words, where a word is what stands between white space.
        used: which share of the ids occurs.
        single_characters: which share of the tokens is one character, or one after a space.
        bytes: which share of the tokens is a byte or another part of a character.
        unknown: which share of the tokens is the unknown token.
        changed_lines: which share of the lines is not the same after encoding and decoding.
        changed_example: the first of these lines, as it was and as it is.
    """

    tokenizer: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    tokens_per_word: float
    used: float
    single_characters: float
    bytes: float
    unknown: float
    changed_lines: float
    changed_example: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compare(tokenizers: Mapping[str, Tokenizer], text: str) -> tuple[Measure, ...]:
    """Measure each tokenizer on ``text``.

    Raises:
        TokenizerError: if there is no text, or a tokenizer cannot spell it.
    """
    if not text.strip():
        raise TokenizerError("there is no text to compare tokenizers on", cure="Give some text.")
    return tuple(measure(tokenizer, text, name) for name, tokenizer in tokenizers.items())


def measure(tokenizer: Tokenizer, text: str, name: str) -> Measure:
    """Measure one tokenizer on a text that holds something.

    Raises:
        TokenizerError: if the tokenizer cannot spell the text.
    """
    ids = tokenizer.encode(text)
    distinct, counts = np.unique(ids, return_counts=True)
    single, partial = kinds_of(tokenizer, distinct.tolist())
    unknown = distinct == (-1 if (found := unknown_id(tokenizer)) is None else found)
    n = max(len(ids), 1)
    changed, example = _changed(tokenizer, text)
    return Measure(
        name,
        tokenizer.vocab_size,
        len(ids),
        len(text.encode()) / n,
        len(ids) / max(len(text.split()), 1),
        len(distinct) / tokenizer.vocab_size,
        float(counts[single].sum() / n),
        float(counts[partial].sum() / n),
        float(counts[unknown].sum() / n),
        changed,
        example,
    )


def kinds_of(
    tokenizer: Tokenizer, ids: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which ids are one character (maybe after a space), and which bytes or parts of one."""
    single = np.zeros(len(ids), np.bool_)
    partial = np.zeros(len(ids), np.bool_)
    for i, id_ in enumerate(ids):
        surface = tokenizer.piece(id_, first=False)
        try:
            text = surface.decode()
            single[i] = len(text) == 1 or (len(text) == 2 and text[0] == " ")
        except UnicodeDecodeError:
            partial[i] = True
        if len(surface) == 1 and _BYTE_NAME.fullmatch(tokenizer.token_bytes(id_)):
            single[i], partial[i] = False, True
    return single, partial


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what the vocabulary cannot spell, if there is one."""
    for attribute in ("unknown_id", "_unknown_id"):
        found = getattr(tokenizer, attribute, None)
        if isinstance(found, int):
            return found
    special = tokenizer.special_tokens
    return next((special[name] for name in _UNKNOWN_NAMES if name in special), None)


def _changed(tokenizer: Tokenizer, text: str) -> tuple[float, tuple[str, str] | None]:
    """Which share of the lines encoding and decoding changes, and the first of them."""
    lines = [line for line in text.split("\n") if line]
    found = [tokenizer.decode(ids) for ids in tokenizer.encode_batch(lines)]
    changed = [(a, b) for a, b in zip(lines, found, strict=True) if a != b]
    return len(changed) / max(len(lines), 1), changed[0] if changed else None
