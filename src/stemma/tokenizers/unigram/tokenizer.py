"""SentencePiece's Unigram tokenizer: the likeliest segmentation of the normalised text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.sampling import check_sampling
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.pieces import (
    FOUND_IN_TEXT,
    Kind,
    Piece,
    SentencePieceSettings,
    byte_piece,
)
from stemma.tokenizers.special import END_OF_TEXT, AddedToken
from stemma.tokenizers.steps.charsmap import CharsMap
from stemma.tokenizers.steps.template import Template
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.unigram.model import UNKNOWN_PENALTY, Edge, UnigramModel

if TYPE_CHECKING:
    from stemma.tokenizers.cutting import InTurn, Stretch
    from stemma.tokenizers.sentencepiece.compiled import TextEncoder
    from stemma.tokenizers.unigram.train import Progress

UNKNOWN = "<unk>"
LOSSLESS = SentencePieceSettings(remove_extra_whitespaces=False, byte_fallback=True)
"""Settings with which decoding gives back any text that was encoded."""

_LARGEST_SINGLE = float(np.finfo(np.float32).max)
_USER_DEFINED_BONUS = 0.1


class UnigramTokenizer(SentencePieceTokenizer):
    """Cuts a text into its likeliest pieces, as ``sentencepiece`` does it.

    Args:
        pieces: the vocabulary in the order of its ids; scores are log probabilities.
        settings: see there.
        added: see `SentencePieceTokenizer`.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if the pieces contradict each other or the settings.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        settings: SentencePieceSettings | None = None,
        added: Sequence[AddedToken] = (),
        *,
        template: Template | None = None,
    ) -> None:
        super().__init__(pieces, settings, added, template=template)
        if not any(piece.kind in FOUND_IN_TEXT for piece in self.pieces):
            raise TokenizerError("no piece of the vocabulary is ever found in a text")

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        settings: SentencePieceSettings = LOSSLESS,
        allow_fewer: bool = False,
        progress: Progress | None = None,
        **options: Any,
    ) -> Self:
        """Learn pieces and their probabilities: EM from many candidates, then pruning.

        The ids are: unknown, the special tokens, the 256 bytes if there is byte fallback, and the
        pieces, the most probable first. With the default settings every text can be decoded.

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: the number of all ids.
            special_tokens: their names, in the order of their ids.
            settings: how texts are prepared.
            allow_fewer: accept a smaller vocabulary where the text has too few pieces.
            progress: called after each round with the numbers of rounds done and to come.
            options: see `unigram.train.train_unigram`.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        from stemma.tokenizers.unigram.train import train_unigram
        from stemma.tokenizers.unigram.words import count_unigram_words

        if settings.treat_whitespace_as_suffix or not settings.escape_whitespaces:
            raise TokenizerError("words are learned with their space, written ▁, before them")
        first = [Piece(UNKNOWN, 0.0, Kind.UNKNOWN)]
        first += [Piece(name, 0.0, Kind.CONTROL) for name in special_tokens]
        if settings.byte_fallback:
            first += [Piece(byte_piece(value), 0.0, Kind.BYTE) for value in range(256)]
        words = count_unigram_words(
            documents,
            special_tokens=special_tokens,
            normalizer=CharsMap(settings.charsmap).normalize,
            dummy_prefix=settings.add_dummy_prefix,
            collapse_spaces=settings.remove_extra_whitespaces,
        )
        n_learned = vocab_size - len(first)
        if n_learned < 1:
            raise TokenizerError(
                f"vocab_size={vocab_size} has no room for a piece of the text besides the "
                f"{len(first)} for bytes, special tokens and the unknown"
            )
        learned = train_unigram(
            words,
            n_learned,
            besides=len(first),
            allow_fewer=allow_fewer,
            progress=progress,
            **options,
        )
        return cls([*first, *(Piece(text, score) for text, score in learned)], settings)

    @cached_property
    def model(self) -> UnigramModel:
        """What decides how a normalised text is cut."""
        return _model(self.pieces, [len(piece.text.encode()) for piece in self.pieces])

    @cached_property
    def lattice(self) -> UnigramModel:
        """What decides between segmentations: `model`, but for user-defined pieces.

        Their bonus counts characters here, and bytes there: so it is in ``sentencepiece``.
        """
        plain = all(p.text.isascii() for p in self.pieces if p.kind == Kind.USER_DEFINED)
        return self.model if plain else _model(self.pieces, [len(p.text) for p in self.pieces])

    def _text_encoder(self) -> TextEncoder:
        from stemma.tokenizers.sentencepiece.compiled import unigram_encoder

        return unigram_encoder(self, self.model)

    def _segment(self, text: str) -> list[tuple[int, int]]:
        return _sizes(self.model.best_path(text))

    def _encode_stretches(
        self, batches: Iterable[Sequence[Stretch]], names: frozenset[str], in_turn: InTurn
    ) -> Iterator[NDArray[np.int32]]:
        """One after another: how the scores of a stretch are rounded depends on those before it."""
        total = 0.0
        for stretch in chain.from_iterable(batches):
            ids, total = self._encode_from(total, stretch, names)
            yield ids

    def to_json(self) -> dict[str, Any]:
        """A Unigram model with SentencePiece's normalisation.

        Raises:
            TokenizerError: if the format has no way to say what the settings or pieces ask for.
        """
        from stemma.tokenizers.formats.sentencepiece_json import unigram_json

        return unigram_json(self, self.model)

    def n_best(self, text: str, n: int) -> list[NDArray[np.int32]]:
        """Ids of the ``n`` best segmentations, the best first; fewer if there are fewer.

        Raises:
            TokenizerError: if ``text`` holds a lone surrogate, or ``n`` is less than 1.
        """
        check_text(text)
        normalized = self.rewrite(text)
        if n == 1:
            return [self._ids(normalized, self.model.best_path(normalized))]
        return [self._ids(normalized, path) for path, _ in self.lattice.n_best(normalized, n)]

    def sample(
        self,
        text: str,
        generator: np.random.Generator,
        *,
        alpha: float = 1.0,
        n_best: int | None = None,
    ) -> NDArray[np.int32]:
        """Ids of a random segmentation: *subword regularisation* (Kudo 2018, section 3.3).

        Each is as likely as P(segmentation)^alpha, among all of them, or among the ``n_best`` best.

        Args:
            text: the text.
            generator: where the randomness comes from.
            alpha: 0 draws all equally often, a large one nearly always the best.
            n_best: None draws from all.

        Raises:
            TokenizerError: if ``text`` holds a lone surrogate, or ``alpha`` is negative.
        """
        check_text(text)
        check_sampling(generator, alpha)
        normalized = self.rewrite(text)
        if n_best is None:
            return self._ids(normalized, self.lattice.sample(normalized, generator, alpha=alpha))
        best = self.lattice.n_best(normalized, n_best)
        weights = np.exp([alpha * (score - best[0][1]) for _, score in best])
        chosen = generator.choice(len(best), p=weights / weights.sum())
        return self._ids(normalized, best[chosen][0])

    def _ids(self, normalized: str, path: Iterable[Edge]) -> NDArray[np.int32]:
        tokens = self._joined(normalized, _sizes(path))
        return np.array([id_ for id_, _, _ in tokens], np.int32)


def _model(pieces: Sequence[Piece], sizes: Sequence[int]) -> UnigramModel:
    """A user-defined piece of size n scores (n - 1) / 10, more than any log probability."""
    texts = [p.text if p.kind in (Kind.NORMAL, Kind.USER_DEFINED) else None for p in pieces]
    scores = [
        _USER_DEFINED_BONUS * (size - 1) if p.kind == Kind.USER_DEFINED else p.score
        for p, size in zip(pieces, sizes, strict=True)
    ]
    normal = [np.float32(p.score) for p in pieces if p.kind == Kind.NORMAL]
    lowest = min(normal, default=np.float32(_LARGEST_SINGLE))
    unknown_id = next(i for i, p in enumerate(pieces) if p.kind == Kind.UNKNOWN)
    return UnigramModel(
        texts, scores, unknown_id, unknown_score=float(lowest - np.float32(UNKNOWN_PENALTY))
    )


def _sizes(path: Iterable[Edge]) -> list[tuple[int, int]]:
    return [(edge.id, edge.end - edge.start) for edge in path]
