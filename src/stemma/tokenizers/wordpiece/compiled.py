"""WordPiece with BERT's steps as tables for a kernel: the fast form of `WordPiece._encode_part`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.kernels import double_array
from stemma.tokenizers.kernels import wordpiece as kernel
from stemma.tokenizers.steps.normalizers import BertNormalizer
from stemma.tokenizers.texts import in_groups
from stemma.tokenizers.wordpiece.characters import characters_of

GROUP = 1 << 18
"""Bytes of short texts that the kernel gets at once."""

_PADDING = bytes(16)


@dataclass(frozen=True)
class Vocabulary:
    """What decides a word's ids, as plain values.

    Args:
        ids: token -> id, without those that text never gives.
        continuing_prefix: how tokens begin that continue a word.
        unknown: the id for words that no tokens spell; None if there is none.
        max_characters: a longer word is unknown.
    """

    ids: Mapping[str, int]
    continuing_prefix: str
    unknown: int | None
    max_characters: int


class CompiledWordPiece:
    """Encodes bytes; may be used from several threads.

    Args:
        vocabulary: what decides a word's ids.
        normalizer: what is done to a text before `BertPreTokenizer` cuts it.
        readable: gives the ids of a text in the readable way; asked about single words.

    Raises:
        TokenizerError: if the vocabulary is too large.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        normalizer: BertNormalizer | None,
        readable: Callable[[str], Sequence[int]],
    ) -> None:
        self._characters = characters_of(normalizer)
        self._readable = readable
        ids = [*vocabulary.ids.values(), -1]
        cells, ends = double_array.double_array([token.encode() for token in vocabulary.ids])
        prefix = np.frombuffer(vocabulary.continuing_prefix.encode(), np.uint8)
        self._vocabulary = (
            cells,
            np.array(ids, np.int32)[ends],
            int(kernel.walk(cells, prefix)),
            -1 if vocabulary.unknown is None else vocabulary.unknown,
            vocabulary.max_characters,
        )

    def encode(self, data: bytes) -> NDArray[np.int32]:
        """Ids of a text, given as UTF-8."""
        return self._encode_group([data])[0]

    def encode_texts(self, texts: Sequence[bytes]) -> list[NDArray[np.int32]]:
        """Ids of several texts, given as UTF-8."""
        return [row for group in in_groups(texts, GROUP) for row in self._encode_group(group)]

    def _encode_group(self, texts: Sequence[bytes]) -> list[NDArray[np.int32]]:
        data = np.frombuffer(b"".join((*texts, _PADDING)), np.uint8)
        limits = np.cumsum([len(text) for text in texts])
        ids = np.empty(data.size, np.int32)
        counts = np.zeros(len(texts) + 1, np.int64)
        state = np.zeros(4, np.int64)
        while True:
            tables = self._characters.tables
            why = kernel.encode(
                data,
                limits,
                state,
                tables.kinds,
                tables.places,
                tables.new,
                tables.letters,
                *self._vocabulary,
                ids,
                counts[1:],
            )
            if why == kernel.DONE:
                break
            if why == kernel.ASK:
                self._characters.fill(int(state[kernel.WHAT]))
            else:
                self._read_word(data, state, ids)
        kept = ids[: counts[-1]].copy()
        return [kept[start:end] for start, end in pairwise(counts.tolist())]

    def _read_word(
        self, data: NDArray[np.uint8], state: NDArray[np.int64], ids: NDArray[np.int32]
    ) -> None:
        """Write the ids of a word that the kernel left out."""
        word = data[state[kernel.WHAT] : state[kernel.PLACE]].tobytes().decode()
        found = self._readable(word)
        ids[state[kernel.IDS] :][: len(found)] = found
        state[kernel.IDS] += len(found)
