"""A unigram language model on the words of a text, as ``tokenizer.json`` has it (T5, XLM-R).

SentencePiece's own `UnigramTokenizer` takes the whole text at once and rewrites its spaces by
itself. Hugging Face's library leaves this to a normaliser and a pre-tokeniser, and cuts each word
by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.sampling import check_sampling
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.unigram.model import UNKNOWN_PENALTY, Edge, UnigramModel
from stemma.tokenizers.wordwise import Decoder, PreTokenizer, WordwiseTokenizer
from stemma.tokenizers.wordwise_json import wordwise_json

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.template import Template


class WordwiseUnigram(WordwiseTokenizer):
    """Cuts each word into its likeliest pieces (Kudo 2018, arXiv:1804.10959).

    Args:
        pieces: text and log probability of each id; further ids are added tokens.
        unknown_id: the id of what no piece spells; if None, it is an error.
        added: see `Tokenizer`. A special token is never made from a text's own characters.
        byte_fallback: spell what no piece spells by the pieces ``<0x00>`` to ``<0xFF>``.
        pre_tokenizer: cuts a text into words.
        decoder: joins tokens to a text.
        normalizer: see `Tokenizer`.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if a piece is empty or comes twice, a score is no number, or there is no
            ``unknown_id``.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        unknown_id: int | None,
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        *,
        byte_fallback: bool = False,
        pre_tokenizer: PreTokenizer,
        decoder: Decoder,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        ids = added if isinstance(added, Mapping) else {token.content: token.id for token in added}
        beyond = sorted((i, name) for name, i in ids.items() if i >= len(pieces))
        super().__init__(
            [text.encode() for text, _ in pieces] + [name.encode() for _, name in beyond],
            added,
            pre_tokenizer=pre_tokenizer,
            decoder=decoder,
            normalizer=normalizer,
            template=template,
        )
        if unknown_id is not None and not 0 <= unknown_id < len(pieces):
            raise TokenizerError(f"there is no piece {unknown_id}, which shall stand for unknowns")
        self.pieces = tuple(pieces)
        self.unknown_id = unknown_id
        self.byte_fallback = byte_fallback
        self._ids = {text: i for i, (text, _) in enumerate(pieces)}
        if len(self._ids) != len(pieces):
            double = next(text for i, (text, _) in enumerate(pieces) if self._ids[text] != i)
            raise TokenizerError(f"the piece {double!r} comes twice")
        if "" in self._ids:
            raise TokenizerError(f"piece {self._ids['']} is empty")

    @cached_property
    def _model(self) -> UnigramModel:
        special = set(self.special_tokens.values())
        scores = [score for _, score in self.pieces]
        return UnigramModel(
            [None if i in special else text for i, (text, _) in enumerate(self.pieces)],
            scores,
            -1,
            unknown_score=min(scores, default=0.0) - UNKNOWN_PENALTY,
            precision="double",
        )

    def _encode_word(self, word: str) -> list[int]:
        return [id_ for ids, _ in self._segments(word) for id_ in ids]

    def _word_lengths(self, word: str, ids: Sequence[int]) -> list[int]:
        lengths: list[int] = []
        for found, text in self._segments(word):
            n_bytes = len(text.encode())
            lengths += [n_bytes] if len(found) == 1 else [1] * n_bytes
        return lengths

    def sample(
        self, text: str, generator: np.random.Generator, *, alpha: float = 1.0
    ) -> NDArray[np.int32]:
        """Ids of a random segmentation, each as likely as P(segmentation)^alpha (Kudo 2018).

        Args:
            text: the text, without added tokens.
            generator: where the randomness comes from.
            alpha: 0 draws all segmentations of a word equally often, a large one nearly always the
                best.

        Raises:
            TokenizerError: if ``text`` holds a lone surrogate, or ``alpha`` is negative.
        """
        check_text(text)
        check_sampling(generator, alpha)
        normalized = text if self.normalizer is None else self.normalizer(text)
        ids: list[int] = []
        for word, _, _ in self.pre_tokenizer.split(normalized, at_start=True):
            path = self._model.sample(word, generator, alpha=alpha)
            ids += [id_ for found, _ in self._grouped(word, path) for id_ in found]
        return np.asarray(ids, np.int32)

    def _segments(self, word: str) -> Iterator[tuple[list[int], str]]:
        """Ids and the text that each group of them stands for: unknown characters are one text."""
        return self._grouped(word, self._model.best_path(word))

    def _grouped(self, word: str, path: Sequence[Edge]) -> Iterator[tuple[list[int], str]]:
        for unknown, group in groupby(path, lambda edge: edge.id in (-1, self.unknown_id)):
            edges = list(group)
            if unknown:
                text = word[edges[0].start : edges[-1].end]
                yield self._spell_unknown(text), text
            else:
                for edge in edges:
                    yield [edge.id], word[edge.start : edge.end]

    def _spell_unknown(self, text: str) -> list[int]:
        if text in self._ids and self._ids[text] not in self.special_tokens.values():
            return [self._ids[text]]
        if self.byte_fallback:
            found = [self._ids.get(f"<0x{value:02X}>") for value in text.encode()]
            known = [id_ for id_ in found if id_ is not None]
            if len(known) == len(found):
                return known
        if self.unknown_id is None:
            raise TokenizerError(
                f"no pieces spell {text[:40]!r}, and the vocabulary has none for the unknown",
                cure="Use a vocabulary with a piece for unknown characters, or byte-level BPE.",
            )
        return [self.unknown_id]

    def to_json(self) -> dict[str, Any]:
        """A Unigram model with what stands around it."""
        model = {
            "type": "Unigram",
            "unk_id": self.unknown_id,
            "vocab": [[text, score] for text, score in self.pieces],
            "byte_fallback": self.byte_fallback,
        }
        return wordwise_json(self, model)
