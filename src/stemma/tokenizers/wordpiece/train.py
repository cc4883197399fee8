"""Learning a WordPiece vocabulary.

Like BPE it starts from characters and makes tokens of pairs; the merges are forgotten afterwards.
Which pair comes next:

- ``count``: the commonest, as in BPE. This is what Hugging Face's ``tokenizers`` does, and the
  default: its tokens are those that occur most, and it is fast.
- ``likelihood``: that with the largest ``count(ab) / (count(a) count(b))``. Its logarithm, up to a
  constant, is what one merge of a and b adds to the log likelihood of the text under a model that
  draws its tokens independently: the criterion of Schuster & Nakajima 2012 ("Japanese and Korean
  voice search"), per occurrence. It prefers rare symbols that always go together to common pairs
  of common ones, so that ``min_frequency`` decides much: a pair that occurs once, of symbols that
  occur once, would come first.

Equally good pairs go by the smallest ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge import Pair, replace_pair
from stemma.tokenizers.bpe.train import Progress, Sequences, merge_sequences
from stemma.tokenizers.bpe.word_symbols import Learner, Marks, check_learned, learn_tokens

Score = Literal["count", "likelihood"]
"""Which pair of tokens becomes a token next."""


def learn_vocabulary(
    words: Mapping[str, int],
    vocab_size: int,
    *,
    n_special: int = 0,
    continuing_prefix: str = "##",
    score: Score = "count",
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    allow_fewer: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """The tokens of a WordPiece vocabulary, without its special ones.

    First come the characters in the order of Unicode, then those that occur within words, with
    their prefix; then the learned tokens.

    Args:
        words: word -> count.
        vocab_size: the number of tokens with the special ones.
        n_special: the number of special tokens.
        continuing_prefix: how tokens begin that continue a word.
        score: which pair becomes a token next.
        min_frequency: a rarer pair becomes no token.
        limit_alphabet: see `learn_tokens`.
        allow_fewer: accept a smaller vocabulary where the text has too few pairs.
        progress: see `bpe.train.Progress`.

    Raises:
        TokenizerError: if ``vocab_size`` is too small or cannot be reached, or there is no such
            score.
    """
    if score not in get_args(Score):
        raise TokenizerError(f"score={score!r}", cure=f"Use one of {', '.join(get_args(Score))}.")
    rule = merge_sequences if score == "count" else merge_likeliest
    learn: Learner = partial(rule, min_frequency=min_frequency, progress=progress)
    n_tokens = vocab_size - n_special
    tokens, _, n_alphabet = learn_tokens(
        words, n_tokens, Marks(prefix=continuing_prefix), learn, limit_alphabet=limit_alphabet
    )
    if not allow_fewer:
        check_learned(tokens, n_alphabet, n_tokens, n_special, min_frequency)
    return tokens


def merge_likeliest(
    sequences: Sequences,
    spellings: Sequence[bytes],
    wanted: int,
    *,
    min_frequency: int,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """`bpe.train.merge_sequences` with the rule ``likelihood``; scores are of double precision."""
    spelled = list(spellings)
    known = {spelling: id_ for id_, spelling in enumerate(spelled)}
    table = ScoreTable(sequences, len(spelled), max(min_frequency, 1))
    merges: list[tuple[int, int, int]] = []
    while len(spelled) < len(spellings) + wanted and (pair := table.best()) is not None:
        spelling = spelled[pair[0]] + spelled[pair[1]]
        new = known.setdefault(spelling, len(spelled))
        if new == len(spelled):
            spelled.append(spelling)
        table.merge(pair, new)
        merges.append((*pair, new))
        if progress is not None:
            progress(len(spelled) - len(spellings), wanted)
    return np.array(merges, np.int32).reshape(-1, 3)


class ScoreTable:
    """How often each id and each pair occurs, and what each pair scores.

    A merge changes the counts of three ids alone, so that only the pairs with one of them are
    scored anew; the best is then sought among all scores at once.

    Args:
        sequences: words as ids.
        n_ids: how many ids there are.
        least: a rarer pair scores nothing.
    """

    def __init__(self, sequences: Sequences, n_ids: int, least: int) -> None:
        self._words = [ids for ids, _ in sequences]
        self._weights = [count for _, count in sequences]
        self._least = least
        self._places: dict[Pair, set[int]] = defaultdict(set)
        self._rows: dict[Pair, int] = {}
        self._rows_of: dict[int, list[int]] = defaultdict(list)
        self._ids = np.zeros(2 * n_ids + 1, np.int64)
        self._pairs = np.zeros((1024, 2), np.int64)
        self._counts = np.zeros(1024, np.int64)
        self._scores = np.full(1024, -1.0)
        changes: dict[Pair, int] = defaultdict(int)
        for place, (ids, weight) in enumerate(zip(self._words, self._weights, strict=True)):
            for id_ in ids:
                self._ids[id_] += weight
            for pair in pairwise(ids):
                changes[pair] += weight
                self._places[pair].add(place)
        self._count(changes)
        self._score(np.arange(len(self._rows)))

    def best(self) -> Pair | None:
        """The pair to merge next, if any is common enough."""
        scores = self._scores[: len(self._rows)]
        if not scores.size or (top := scores.max()) < 0:
            return None
        left, right = min(map(tuple, self._pairs[np.flatnonzero(scores == top)].tolist()))
        return left, right

    def merge(self, pair: Pair, new: int) -> None:
        """Replace ``pair`` by ``new`` in every word."""
        changes: dict[Pair, int] = defaultdict(int)
        n_merged = 0
        for place in self._places.pop(pair):
            ids = self._words[place]
            merged = replace_pair(ids, pair, new)
            weight = self._weights[place]
            n_merged += weight * (len(ids) - len(merged))
            self._words[place] = merged
            for old in pairwise(ids):
                changes[old] -= weight
            for now in pairwise(merged):
                changes[now] += weight
                self._places[now].add(place)
        if new >= self._ids.size:
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        for id_, by in ((pair[0], -n_merged), (pair[1], -n_merged), (new, n_merged)):
            self._ids[id_] += by
        self._count(changes)
        self._score(np.array([row for id_ in {*pair, new} for row in self._rows_of[id_]]))

    def _count(self, changes: Mapping[Pair, int]) -> None:
        for pair, by in changes.items():
            row = self._rows.get(pair)
            if row is None:
                row = self._rows[pair] = len(self._rows)
                if row == self._counts.size:
                    self._grow()
                self._pairs[row] = pair
                for id_ in {*pair}:
                    self._rows_of[id_].append(row)
            self._counts[row] += by

    def _grow(self) -> None:
        self._pairs = np.concatenate([self._pairs, np.zeros_like(self._pairs)])
        self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._scores = np.concatenate([self._scores, np.full_like(self._scores, -1)])

    def _score(self, rows: NDArray[np.int64]) -> None:
        counts = self._counts[rows]
        each = self._ids[self._pairs[rows]].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = counts / (each[:, 0] * each[:, 1])
        self._scores[rows] = np.where(counts >= self._least, scores, -1)
