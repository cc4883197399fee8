"""The simplest tokenizer that can spell everything: one token a byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stemma.tokenizers.formats.huggingface_json import bpe_json
from stemma.tokenizers.special import END_OF_TEXT
from stemma.tokenizers.tokenizer import Tokenizer

BYTES = [bytes([value]) for value in range(256)]
"""The 256 tokens that every tokenizer on bytes begins with."""


class ByteTokenizer(Tokenizer):
    """Id = value of the byte; the special tokens follow from 256 on.

    ``decode(encode(text)) == text`` for every text.
    """

    def __init__(self, special_tokens: Sequence[str] = (END_OF_TEXT,)) -> None:
        super().__init__(
            BYTES + [name.encode() for name in special_tokens],
            {name: 256 + i for i, name in enumerate(special_tokens)},
        )

    def _cut(self, text: str, before: int) -> int:
        """Anywhere."""
        return before

    def _encode_part(self, text: str, *, at_start: bool) -> list[int]:
        return list(text.encode())

    def to_json(self) -> dict[str, Any]:
        """A byte-level BPE without a merge."""
        return bpe_json(self._spellings, [], self.special_tokens, use_regex=False)
