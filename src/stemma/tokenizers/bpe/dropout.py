"""BPE-dropout: one text, many segmentations (Provilkov et al. 2020, arXiv:1910.13267).

While a word is merged, each merge that could be made is passed over with probability p, anew at
every step. The same word is cut now so, now so, and a model that learns from such ids sees how its
pieces are spelled. p = 0 is plain BPE, p = 1 merges nothing. The paper takes p = 0.1 for training
(0.6 for Chinese and Japanese), and plain BPE afterwards.

It is done from outside: `with_dropout` takes a finished tokenizer, and what it gives encodes at
random with the same ids.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.basic import BasicBPE
from stemma.tokenizers.bpe.byte_level import ByteLevelBPE
from stemma.tokenizers.bpe.characters import CharacterBPE
from stemma.tokenizers.bpe.merge import Pair
from stemma.tokenizers.rows import Spans
from stemma.tokenizers.sampling import check_sampling
from stemma.tokenizers.scan.words import splitter
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.wordwise import Word, spans_of_word


def merge_with_dropout(
    ids: Sequence[int],
    ranks: Mapping[Pair, int],
    results: Sequence[int],
    p: float,
    generator: np.random.Generator,
) -> list[int]:
    """Merge one word, passing over merges at random.

    At each step every place where a merge is possible is passed over with probability p; of the
    rest the merge of lowest rank, the leftmost of several, is made. It ends when none is left. The
    places are gone through in that order until one is not passed over, which comes to the same.

    Takes time n log n / (1 - p).

    Args:
        ids: the word as ids of bytes or characters.
        ranks: pair -> place in the list of merges.
        results: place in the list of merges -> id that the merge makes.
        p: how likely a merge is passed over, 0 to 1.
        generator: where the randomness comes from.

    Raises:
        TokenizerError: if ``p`` is no probability.
    """
    _check_probability(p)
    row = [*ids]
    merge_in_place(row, ranks, results, p, generator)
    return [id_ for id_ in row if id_ >= 0]


def merge_in_place(
    ids: list[int],
    ranks: Mapping[Pair, int],
    results: Sequence[int],
    p: float,
    generator: np.random.Generator,
) -> None:
    """`merge_with_dropout` in the list itself: -1 stands where a token went into the one before."""
    if p == 1:
        return
    n = len(ids)
    before = list(range(-1, n - 1))
    after = list(range(1, n + 1))
    possible = [ranks[pair] * n + at for at, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(possible)
    passed_over: list[int] = []
    while possible:
        entry = heapq.heappop(possible)
        rank, at = divmod(entry, n)
        right = after[at]
        if right == n or ranks.get((ids[at], ids[right])) != rank:
            continue  # a merge beside it has changed the pair
        if generator.random() < p:
            passed_over.append(entry)
            continue
        ids[at], ids[right] = results[rank], -1
        after[at] = beyond = after[right]
        if beyond < n:
            before[beyond] = at
        for entry in passed_over:
            heapq.heappush(possible, entry)
        passed_over.clear()
        for left in (before[at], at):
            if left >= 0 and after[left] < n:
                new_rank = ranks.get((ids[left], ids[after[left]]))
                if new_rank is not None:
                    heapq.heappush(possible, new_rank * n + left)


def with_dropout(tokenizer: Tokenizer, p: float, generator: np.random.Generator) -> DropoutBPE:
    """A tokenizer that encodes as ``tokenizer`` does, but at random.

    Args:
        tokenizer: a `ByteLevelBPE`, `CharacterBPE` or `BasicBPE`.
        p: how likely a merge is passed over, 0 to 1.
        generator: where the randomness comes from; each call takes numbers from it.

    Raises:
        TokenizerError: if ``p`` is no probability, or the tokenizer has no merges.
    """
    check_sampling(generator, 1.0)
    return DropoutBPE(tokenizer, p, generator)


class DropoutBPE(Tokenizer):
    """Encodes at random; decodes as the tokenizer that it was made of. See `with_dropout`."""

    def __init__(self, tokenizer: Tokenizer, p: float, generator: np.random.Generator) -> None:
        _check_probability(p)
        super().__init__(
            tokenizer._spellings,
            tokenizer.added_tokens,
            normalizer=tokenizer.normalizer,
            template=tokenizer.template,
        )
        self.tokenizer = tokenizer
        self.p = p
        self._generator = generator
        self._words = _words_of(tokenizer)

    def encode_batch(self, texts: Iterable[str], **options: Any) -> list[NDArray[np.int32]]:
        """Ids of each of several texts; always on one thread, so that the draws have one order."""
        return super().encode_batch(texts, **(options | {"threads": 1}))

    def _encode_part(self, text: str, *, at_start: bool) -> Sequence[int] | NDArray[np.int32]:
        if self.p == 0:
            return self.tokenizer._encode_part(text, at_start=at_start)
        ids: list[int] = []
        for word in self._words.split(text, at_start=at_start):
            ids += (id_ for id_, _ in self._sample(word.text))
        return ids

    def _encode_part_with_spans(
        self, text: str, *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        if self.p == 0:
            return self.tokenizer._encode_part_with_spans(text, at_start=at_start)
        byte_of = [0, *accumulate(len(character.encode()) for character in text)]
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for word, start, end in self._words.split(text, at_start=at_start):
            sampled = self._sample(word)
            ids += (id_ for id_, _ in sampled)
            spans += spans_of_word(word, [n for _, n in sampled], text[start:end], byte_of[start])
        return np.asarray(ids, np.int32), np.asarray(spans, np.int64).reshape(-1, 2)

    def _sample(self, word: str) -> list[tuple[int, int]]:
        """Ids of a word, and how many of its bytes each stands for."""
        symbols = self._words.symbols(word)
        ids = [id_ for id_, _ in symbols]
        merge_in_place(ids, self._words.ranks, self._words.results, self.p, self._generator)
        sampled: list[tuple[int, int]] = []
        for id_, (_, size) in zip(ids, symbols, strict=True):
            if id_ >= 0:
                sampled.append((id_, size))
            else:
                sampled[-1] = sampled[-1][0], sampled[-1][1] + size
        return sampled

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """What the tokenizer without dropout gives."""
        return self.tokenizer.decode_bytes(ids)

    def piece(self, id_: int, *, first: bool) -> bytes:
        """What the tokenizer without dropout gives."""
        return self.tokenizer.piece(id_, first=first)

    def to_json(self) -> dict[str, Any]:
        """The tokenizer's own, with the field ``dropout``."""
        content = self.tokenizer.to_json()
        return content | {"model": content["model"] | {"dropout": self.p}}


class _Words(Protocol):
    """What dropout has to know of a tokenizer."""

    @property
    def ranks(self) -> Mapping[Pair, int]:
        """Pair -> place in the list of merges."""

    @property
    def results(self) -> Sequence[int]:
        """Place in the list of merges -> id that the merge makes."""

    def split(self, text: str, *, at_start: bool) -> Iterable[Word]:
        """The words of a text."""

    def symbols(self, word: str) -> list[tuple[int, int]]:
        """The ids that merging begins with, and how many bytes of the word each stands for."""


class _ByteWords:
    """Words spelled by their bytes."""

    def __init__(self, tokenizer: ByteLevelBPE | BasicBPE) -> None:
        spellings = tokenizer._spellings
        added = {token.id for token in tokenizer.added_tokens}
        ids = {spelling: i for i, spelling in enumerate(spellings) if i in added}
        ids |= {spelling: i for i, spelling in enumerate(spellings) if i not in added}
        self._byte_ids = [ids.get(bytes([value]), -1) for value in range(256)]
        merges = [*tokenizer.merges]
        self.ranks: Mapping[Pair, int] = {pair: rank for rank, pair in enumerate(merges)}
        self.results: Sequence[int] = [
            ids[spellings[left] + spellings[right]] for left, right in merges
        ]
        words = None if isinstance(tokenizer, BasicBPE) else splitter(tokenizer.pattern)
        self._split = None if words is None else words.split

    def split(self, text: str, *, at_start: bool) -> Iterable[Word]:
        at = 0
        for word in [text] if self._split is None else self._split(text):
            yield Word(word, at, at + len(word))
            at += len(word)

    def symbols(self, word: str) -> list[tuple[int, int]]:
        return [(self._byte_ids[value], 1) for value in word.encode()]


class _CharacterWords:
    """Words spelled by their characters."""

    def __init__(self, tokenizer: CharacterBPE) -> None:
        self.ranks: Mapping[Pair, int] = tokenizer.ranks
        self.results: Sequence[int] = tokenizer.results
        self.symbols = tokenizer.symbols
        self._pre_tokenizer = tokenizer.pre_tokenizer

    def split(self, text: str, *, at_start: bool) -> Iterable[Word]:
        return self._pre_tokenizer.split(text, at_start=at_start)


def _words_of(tokenizer: Tokenizer) -> _Words:
    if isinstance(tokenizer, CharacterBPE):
        return _CharacterWords(tokenizer)
    if isinstance(tokenizer, ByteLevelBPE | BasicBPE):
        return _ByteWords(tokenizer)
    raise TokenizerError(
        f"a {type(tokenizer).__name__} has no merges to drop",
        cure="Give a ByteLevelBPE, CharacterBPE or BasicBPE.",
    )


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise TokenizerError(f"p is {p}, which is no probability", cure="Give one from 0 to 1.")
