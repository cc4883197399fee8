"""Words as tokens: the first idea that comes to mind, and why it fails.

A vocabulary of words cannot spell a word that it has not seen. Such a word becomes ``<|unk|>``, and
decoding gives ``<|unk|>`` back: what it was is lost. (Raschka 2024, "Build a Large Language Model
(From Scratch)", chapter 2.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.cutting import before_spaces
from stemma.tokenizers.formats.huggingface_json import split_step, word_level_json
from stemma.tokenizers.rows import Spans
from stemma.tokenizers.special import END_OF_TEXT, AddedToken, AddedTokens
from stemma.tokenizers.texts import check_documents, check_text
from stemma.tokenizers.tokenizer import Tokenizer

UNKNOWN = "<|unk|>"
"""Stands for every word outside the vocabulary."""

_PUNCTUATION = r"""[,.:;?_!"()']|--"""
# Characters, not escapes: other libraries read \x85 in a pattern as a byte.
_SPACE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
_EDGES = re.compile(f"({_PUNCTUATION})|{_SPACE}")
_NO_SPACE_BEFORE = frozenset(""",.:;?!"()'""")
SPLITS = [split_step(_SPACE, "Removed"), split_step(_PUNCTUATION, "Isolated")]
"""Where words end, as ``tokenizer.json`` says it."""


class WordTokenizer(Tokenizer):
    """One token a word or mark of punctuation; white space is not kept.

    Ids: the words in the order given, then the special tokens. Decoding puts one space between
    tokens and none before a mark, so a text comes back only roughly.

    Args:
        words: the vocabulary.
        special_tokens: names; without ``<|unk|>`` an unknown word is an error.

    Raises:
        TokenizerError: if a word is empty, or listed twice.
    """

    def __init__(
        self, words: Sequence[str], special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN)
    ) -> None:
        self._ids = {word: i for i, word in enumerate(words)}
        if len(self._ids) != len(words):
            double = next(word for i, word in enumerate(words) if self._ids[word] != i)
            raise TokenizerError(f"the word {double!r} is listed twice")
        super().__init__(
            [name.encode() for name in (*words, *special_tokens)],
            {name: len(words) + i for i, name in enumerate(special_tokens)},
        )

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int | None = None,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN),
    ) -> Self:
        """The words of the texts, in alphabetical order.

        Args:
            documents: the texts; a special token's name in them is no word.
            vocab_size: if given, only the commonest words are kept (of equally common ones the
                first in the alphabet), so that with the special tokens there are that many.
            special_tokens: see the class.

        Raises:
            TokenizerError: if ``vocab_size`` leaves no room for a word, or there is no word.
        """
        special = AddedTokens([AddedToken(name, i) for i, name in enumerate(special_tokens)])
        counts: Counter[str] = Counter()
        for text in check_documents(documents):
            check_text(text)
            for part, _, _ in special.split(text, special.allowed("all")):
                if isinstance(part, str):
                    counts.update(cut_words(part))
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if vocab_size is not None:
            words = words[: max(vocab_size - len(special_tokens), 0)]
        if not words:
            raise TokenizerError(
                "the vocabulary would hold no word",
                cure="Give more text, or a larger vocab_size.",
            )
        return cls(sorted(words), special_tokens)

    def _cut(self, text: str, before: int) -> int:
        """Before a space."""
        return next((at for at in before_spaces(text, before) if text[at].isspace()), 0)

    def _encode_part(self, text: str, *, at_start: bool) -> Sequence[int]:
        unknown = self.special_tokens.get(UNKNOWN)
        ids: list[int] = []
        for word in cut_words(text):
            id_ = self._ids.get(word, unknown)
            if id_ is None:
                raise TokenizerError(
                    f"the word {word!r} is not in the vocabulary",
                    cure=f"Train it with the special token {UNKNOWN} besides, or use "
                    "byte-level BPE.",
                )
            ids.append(id_)
        return ids

    def _encode_part_with_spans(
        self, text: str, *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        ids = np.asarray(self._encode_part(text, at_start=at_start), np.int32)
        byte_of = np.array([0, *accumulate(len(character.encode()) for character in text)])
        return ids, byte_of[np.array(_places(text), np.int64).reshape(-1, 2)]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The words with single spaces between them, none before a mark of punctuation."""
        row = self._checked(ids)
        return b"".join(self.piece(id_, first=i == 0) for i, id_ in enumerate(row))

    def piece(self, id_: int, *, first: bool) -> bytes:
        """The word, after a space where it needs one."""
        word = self.token_bytes(id_)
        return word if first or word.decode() in _NO_SPACE_BEFORE else b" " + word

    def to_json(self) -> dict[str, Any]:
        """A word-level model behind two splits: white space, then punctuation."""
        words = [spelling.decode() for spelling in self._spellings]
        return word_level_json(words, self.special_tokens, UNKNOWN, SPLITS)


def cut_words(text: str) -> list[str]:
    """The words and marks of a text: ``"Is this-- it?"`` gives ``Is this -- it ?``."""
    return [text[start:end] for start, end in _places(text)]


def _places(text: str) -> list[tuple[int, int]]:
    """Where the words and marks of a text begin and end."""
    places = []
    start = 0
    for edge in chain(_EDGES.finditer(text), [None]):
        stop = len(text) if edge is None else edge.start()
        if start < stop:
            places.append((start, stop))
        if edge is not None and edge[1]:
            places.append(edge.span())
        start = stop if edge is None else edge.end()
    return places
