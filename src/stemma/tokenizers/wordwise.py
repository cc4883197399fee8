"""Tokenizers that cut a text into words first, and then each word by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.cutting import AROUND, Stretch, before_spaces
from stemma.tokenizers.rows import Spans
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.template import Template

CACHED_WORDS = 1 << 17
LONG_WORD = 64


class Word(NamedTuple):
    """A word, and the characters ``start:end`` of the text that it came from.

    `text` may differ from these characters: ``▁`` stands for a space.
    """

    text: str
    start: int
    end: int


class PreTokenizer(Protocol):
    """Cuts a text into words."""

    def split(self, text: str, *, at_start: bool) -> list[Word]:
        """The words of ``text`` in order; ``at_start`` says that nothing precedes the text."""

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """See `steps.pre_tokenizers.PreTokenizer.edge`."""


class Decoder(Protocol):
    """Joins tokens to a text."""

    def join(self, tokens: Iterable[bytes]) -> bytes:
        """The text of all tokens."""

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """What a token adds to a text, at its beginning or further on; may be empty."""


class WordwiseTokenizer(Tokenizer):
    """A tokenizer none of whose tokens reaches over the edge of a word.

    The ids of words seen before are kept: text repeats its words.

    Args:
        spellings: the bytes of each id, as the vocabulary writes it (``##ing``, ``▁the``).
        added: see `Tokenizer`.
        pre_tokenizer: cuts a text into words.
        decoder: joins tokens to a text.
        normalizer: see `Tokenizer`.
        template: see `Tokenizer`.
    """

    def __init__(
        self,
        spellings: Sequence[bytes],
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        *,
        pre_tokenizer: PreTokenizer,
        decoder: Decoder,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        super().__init__(spellings, added, normalizer=normalizer, template=template)
        self.pre_tokenizer = pre_tokenizer
        self.decoder = decoder
        self._cache: dict[str, list[int]] = {}

    @abstractmethod
    def _encode_word(self, word: str) -> list[int]:
        """Ids of one word."""

    def _word_lengths(self, word: str, ids: Sequence[int]) -> list[int]:
        """How many bytes of ``word`` each of its ids stands for.

        Right as it stands where the tokens, joined, are the word; others override it.
        """
        return [len(self._spellings[id_]) for id_ in ids]

    def _encode_part(self, text: str, *, at_start: bool) -> list[int]:
        ids: list[int] = []
        for word, _, _ in self.pre_tokenizer.split(text, at_start=at_start):
            ids += self._cached(word)
        return ids

    def _cut(self, text: str, before: int) -> int:
        """Before a space, where that is certain to change no word, or to change no word's ids."""
        for place in before_spaces(text, before):
            sides = text[max(place - AROUND, 0) : place], text[place : place + AROUND]
            changed = sides if self.normalizer is None else self.normalizer.edge(*sides)
            inner = changed and self.pre_tokenizer.edge(changed[0][-1:], changed[1][0])
            if inner and (inner == ("", "") or self._apart(*inner)):
                return place
        return 0

    def _keeps_beginning(self, text: str) -> bool:
        """As the library has it: not if the first character is left out."""
        if self.normalizer is None or not text:
            return True
        _, alignment = self.normalizer.align(text[:AROUND])
        return bool(alignment) and alignment[0][0] == 0

    def _apart(self, before: str, after: str) -> bool:
        """Whether the ids of a word are those of its parts, cut between two such characters."""
        return False

    def _encode_stretch(self, stretch: Stretch, names: frozenset[str]) -> NDArray[np.int32]:
        return self._encode_text(stretch.text, names, stretch.before)

    def _cached(self, word: str) -> list[int]:
        found = self._cache.get(word)
        if found is None:
            found = self._encode_word(word)
            if len(word) <= LONG_WORD:
                if len(self._cache) >= CACHED_WORDS:
                    self._cache.clear()
                self._cache[word] = found
        return found

    def _encode_part_with_spans(
        self, text: str, *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        byte_of = [0, *accumulate(len(character.encode()) for character in text)]
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for word, start, end in self.pre_tokenizer.split(text, at_start=at_start):
            found = self._cached(word)
            ids += found
            lengths = self._word_lengths(word, found)
            spans += spans_of_word(word, lengths, text[start:end], byte_of[start])
        return np.asarray(ids, np.int32), np.asarray(spans, np.int64).reshape(-1, 2)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of ``ids`` as the decoder joins them."""
        return self.decoder.join(map(self._spellings.__getitem__, self._checked(ids).tolist()))

    def piece(self, id_: int, *, first: bool) -> bytes:
        """What the decoder makes of the token; an added token stays as it is."""
        return self.decoder.piece(self.token_bytes(id_), first=first)


def spans_of_word(
    word: str, lengths: Sequence[int], origin: str, offset: int
) -> list[tuple[int, int]]:
    """Spans of a word's tokens in the text.

    The last characters of the word stand for those of ``origin``; what it has before them (a ``▁``
    that no space stands behind) stands for nothing. A character that was replaced is a whole.

    Args:
        word: the word as the model saw it.
        lengths: bytes of the word for each token.
        origin: the characters of the text that the word came from.
        offset: bytes of the text before ``origin``.
    """
    starts: list[int] = []
    ends: list[int] = []
    added = max(len(word) - len(origin), 0)
    for i, character in enumerate(word):
        source = origin[i - added] if i >= added else ""
        size, n = len(source.encode()), len(character.encode())
        for j in range(n):
            same = source == character
            starts.append(offset + j if same else offset)
            ends.append(offset + j + 1 if same else offset + size)
        offset += size
    spans = []
    at = 0
    for length in lengths:
        start = starts[at] if at < len(starts) else offset
        spans.append((start, ends[at + length - 1] if length else start))
        at += length
    return spans
