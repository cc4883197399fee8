"""One token a character: the vocabulary is the alphabet of a text.

Between bytes and words: ids are few and mean something, but a text is long in them, and a character
that the training text lacks has no id. What then happens is chosen: an unknown token, which loses
the character; its UTF-8 bytes, which keep it; or an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.special import END_OF_TEXT, AddedTokens, special_tokens
from stemma.tokenizers.texts import check_documents, check_text
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.vocabulary import ids_of
from stemma.tokenizers.word import UNKNOWN
from stemma.tokenizers.wordwise_json import tokenizer_json

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.characters import CharacterBPE

_BYTE_NAMES = [f"<0x{value:02X}>" for value in range(256)]


class CharacterTokenizer(Tokenizer):
    """Ids: the characters in the order given, the 256 bytes if there is need, the special tokens.

    Args:
        characters: the alphabet.
        special_tokens: names. ``<|unk|>`` stands for characters outside the alphabet; without it
            they are an error.
        byte_fallback: spell them by the bytes of their UTF-8 instead.

    Raises:
        TokenizerError: if a character is not one character, or is listed twice.
    """

    def __init__(
        self,
        characters: Sequence[str],
        special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN),
        *,
        byte_fallback: bool = False,
    ) -> None:
        for character in characters:
            if len(character) != 1:
                raise TokenizerError(f"{character!r} is not one character")
            check_text(character)
        ids = ids_of(characters)
        self.characters = tuple(characters)
        self.byte_fallback = byte_fallback
        self._first_byte = len(ids)
        n_bytes = 256 if byte_fallback else 0
        first = len(ids) + n_bytes
        super().__init__(
            [c.encode() for c in characters]
            + [bytes([value]) for value in range(n_bytes)]
            + [name.encode() for name in special_tokens],
            {name: first + i for i, name in enumerate(special_tokens)},
        )
        # One row more than there are characters: what lies beyond the last is unknown as well.
        self._table = np.full(max(map(ord, ids), default=-1) + 2, -1, np.int32)
        self._table[[ord(character) for character in ids]] = np.arange(len(ids))

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int | None = None,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN),
        byte_fallback: bool = False,
    ) -> Self:
        """The characters of the texts, in the order of Unicode.

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: if given, only the commonest characters are kept (of equally common ones the
                first in Unicode), so that with bytes and special tokens there are at most so many.
            special_tokens: see the class.
            byte_fallback: see the class.

        Raises:
            TokenizerError: if ``vocab_size`` leaves no room for a character, or there is none.
        """
        counts = count_characters(documents, special_tokens)
        characters = sorted(counts, key=lambda character: (-counts[character], character))
        if vocab_size is not None:
            beside = len(special_tokens) + (256 if byte_fallback else 0)
            characters = characters[: max(vocab_size - beside, 0)]
        if not characters:
            raise TokenizerError(
                "the vocabulary would hold no character",
                cure="Give more text, or a larger vocab_size.",
            )
        return cls(sorted(characters), special_tokens, byte_fallback=byte_fallback)

    @property
    def lossless(self) -> bool:
        """Whether ``decode(encode(text)) == text`` for every text that `encode` takes."""
        return self.byte_fallback or UNKNOWN not in self.special_tokens

    def _encode_part(self, text: str, *, at_start: bool) -> NDArray[np.int32]:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        ids = self._table[np.minimum(codes, self._table.size - 1)]
        places = np.flatnonzero(ids < 0)
        if not places.size:
            return ids
        if self.byte_fallback:
            return self._with_bytes(ids, places, text)
        unknown = self.special_tokens.get(UNKNOWN)
        if unknown is None:
            raise TokenizerError(
                f"the character {text[places[0]]!r} is not in the vocabulary",
                cure=f"Train it with the special token {UNKNOWN} besides, or (in Python) with "
                "byte_fallback=True.",
            )
        ids[places] = unknown
        return ids

    def _with_bytes(
        self, ids: NDArray[np.int32], places: NDArray[np.int64], text: str
    ) -> NDArray[np.int32]:
        """``ids`` with the bytes of the characters at ``places``."""
        spelled = [text[place].encode() for place in places.tolist()]
        sizes = np.ones(ids.size, np.int64)
        sizes[places] = [len(data) for data in spelled]
        whole = np.repeat(ids, sizes)
        data = np.frombuffer(b"".join(spelled), np.uint8)
        whole[whole < 0] = data.astype(np.int32) + self._first_byte
        return whole

    def _cut(self, text: str, before: int) -> int:
        """Anywhere."""
        return before

    def to_json(self) -> dict[str, Any]:
        """A BPE on characters without a merge.

        Other libraries leave unknown characters out where they are an error here.
        """
        names = [*self.characters, *(_BYTE_NAMES if self.byte_fallback else ())]
        names += self.special_tokens
        steps: list[dict[str, Any]] = [{"type": "ByteFallback"}] if self.byte_fallback else []
        model: dict[str, Any] = {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN if UNKNOWN in self.special_tokens else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": False,
            "vocab": {name: id_ for id_, name in enumerate(names)},
            "merges": [],
        }
        return tokenizer_json(
            self, model, decoder={"type": "Sequence", "decoders": [*steps, {"type": "Fuse"}]}
        )


def character_level(tokenizer: CharacterBPE) -> CharacterTokenizer | None:
    """The `CharacterTokenizer` that is written like a BPE without a merge, if one is."""
    n_beside = len(tokenizer.added_tokens) + (256 if tokenizer.rules.byte_fallback else 0)
    n = len(tokenizer.tokens)
    if tokenizer.merges or n_beside > n:
        return None
    try:
        found = CharacterTokenizer(
            tokenizer.tokens[: n - n_beside],
            tokenizer.tokens[n - len(tokenizer.added_tokens) :],
            byte_fallback=tokenizer.rules.byte_fallback,
        )
    except TokenizerError:
        return None
    return found if found.to_json() == tokenizer.to_json() else None


def count_characters(documents: Iterable[str], special: Sequence[str]) -> dict[str, int]:
    """How often each character occurs, special tokens left out.

    Raises:
        TokenizerError: if a text holds a lone surrogate.
    """
    added = AddedTokens(special_tokens({name: i for i, name in enumerate(special)}))
    names = added.allowed("all")
    counts = np.zeros(0x110000, np.int64)
    for text in check_documents(documents):
        check_text(text)
        for part, _, _ in added.split(text, names):
            if isinstance(part, str):
                codes = np.frombuffer(part.encode("utf-32-le"), np.uint32)
                found = np.bincount(codes)
                counts[: found.size] += found
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts).tolist()}
