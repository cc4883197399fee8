"""Learning merges from the words of a text.

The rule is that of `BasicBPE.train`, within words: merge the commonest pair, of equally common ones
that with the smallest ids. Instead of counting all pairs again after each merge, the counts are
kept, and only those words are looked at that hold the pair. `PairTable` does this readably; what
learns from much text is `kernels.bpe_train`, with the same result.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.bpe.merge import Pair, replace_pair
from stemma.tokenizers.word_counts import WordCounts, count_words

__all__ = [
    "PairTable",
    "Progress",
    "Sequences",
    "check_vocab_size",
    "count_words",
    "learn_merges",
    "learn_readably",
    "merge_sequences",
    "spellings_learned",
    "too_little_text",
]

Progress = Callable[[int, int], object]
"""Called with the number of tokens learned and the number wanted."""

PROGRESS_SECONDS = 0.1
"""How often progress is told, and Ctrl-C is heard."""


@dataclass(frozen=True)
class Sequences:
    """What merges are learned from: words as sequences of ids, whatever the ids stand for.

    Args:
        ids: of all words, one after another, int32 of shape (n,).
        ends: where each word ends in ``ids``, int64 of shape (n_words,).
        counts: how often each word occurs, int64 of shape (n_words,).
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, words: Mapping[Sequence[int], int]) -> Sequences:
        """From sequence of ids -> count."""
        ends = np.cumsum([len(ids) for ids in words], dtype=np.int64)
        ids = np.fromiter((id_ for ids in words for id_ in ids), np.int32)
        return cls(ids, ends, np.fromiter(words.values(), np.int64, len(words)))

    def occurring(self) -> Sequences:
        """Without the words whose count is 0."""
        kept = self.counts > 0
        if kept.all():
            return self
        lengths = np.diff(self.ends, prepend=0)
        ids = self.ids[np.repeat(kept, lengths)]
        return Sequences(ids, np.cumsum(lengths[kept]), self.counts[kept])

    def __iter__(self) -> Iterator[tuple[list[int], int]]:
        """Each word's ids and its count."""
        start = 0
        for end, count in zip(self.ends.tolist(), self.counts.tolist(), strict=True):
            yield self.ids[start:end].tolist(), count
            start = end


def learn_merges(
    words: WordCounts | Mapping[str, int],
    spellings: Sequence[bytes],
    wanted: int,
    *,
    min_frequency: int,
    progress: Progress | None = None,
) -> tuple[list[bytes], list[Pair]]:
    """Learn merges of bytes until there are ``wanted`` new tokens, or no pair is common enough.

    Args:
        words: their counts, see `count_words`.
        spellings: the tokens there are, the 256 bytes among them, in the order of their ids.
        wanted: number of tokens to add.
        min_frequency: a rarer pair is not merged.
        progress: see `Progress`; called every tenth of a second and at the end.

    Returns:
        The spellings of the new tokens, and the merges in the order learned. There are more merges
        than tokens where two pairs spell the same, and make the same token. From bytes alone that
        does not come about: a token's bytes have been merged alike wherever it stands.
    """
    if not isinstance(words, WordCounts):
        words = WordCounts.of(words)
    id_of = {spelling: id_ for id_, spelling in enumerate(spellings)}
    byte_ids = np.array([id_of[bytes([value])] for value in range(256)], np.int32)
    sequences = Sequences(byte_ids[words.data], words.ends, words.counts)
    merges = merge_sequences(
        sequences, spellings, wanted, min_frequency=min_frequency, progress=progress
    )
    pairs = list(zip(merges[:, 0].tolist(), merges[:, 1].tolist(), strict=True))
    return spellings_learned(spellings, merges), pairs


def spellings_learned(spellings: Sequence[bytes], merges: NDArray[np.int32]) -> list[bytes]:
    """What the new tokens of `merge_sequences` spell, in the order of their ids."""
    learned = list(spellings)
    for left, right, new in zip(*merges.T.tolist(), strict=True):
        if new == len(learned):
            learned.append(learned[left] + learned[right])
    return learned[len(spellings) :]


def merge_sequences(
    sequences: Sequences,
    spellings: Sequence[bytes] | int,
    wanted: int,
    *,
    min_frequency: int,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Learn merges of any ids until there are ``wanted`` new ones, or no pair is common enough.

    Args:
        sequences: words as ids.
        spellings: what each id spells: a pair that spells what a token spells already makes that
            token. A token's spelling is that of its pair, joined; tokens that look alike but are
            not the same (at the start of a word and within it) have to be given spellings that
            differ. If a number: how many ids there are; then each pair makes a token of its own.
        wanted: number of ids to add.
        min_frequency: a rarer pair is not merged.
        progress: see `Progress`; called every tenth of a second and at the end.

    Returns:
        The merges in the order learned: left id, right id and the id that they make, int32 of
        shape (n, 3).

    Raises:
        TokenizerError: if the sequences are too long for places of 32 bits.
    """
    from stemma.tokenizers.bpe.train_fast import learn_fast

    # A text has several times as many symbols as its distinct words, and these are merged slowly.
    learn = learn_fast if kernels.worth(4 * sequences.ids.size) else learn_readably
    told = time.monotonic()

    def tell(n_learned: int, *, now: bool = False) -> None:
        nonlocal told
        if progress is not None and (now or time.monotonic() - told > PROGRESS_SECONDS):
            progress(n_learned, wanted)
            told = time.monotonic()

    merges = learn(sequences.occurring(), spellings, wanted, max(min_frequency, 1), tell)
    n_first = spellings if isinstance(spellings, int) else len(spellings)
    tell(int(merges[:, 2].max(initial=n_first - 1)) + 1 - n_first, now=True)
    return merges


def learn_readably(
    sequences: Sequences,
    spellings: Sequence[bytes] | int,
    wanted: int,
    least: int,
    tell: Callable[[int], object],
) -> NDArray[np.int32]:
    """What `merge_sequences` does, as short as it can be said.

    Args:
        sequences: words as ids; none whose count is 0.
        spellings: see `merge_sequences`.
        wanted: number of ids to add.
        least: a rarer pair is not merged; at least 1.
        tell: called with the number of ids added.
    """
    spelled = None if isinstance(spellings, int) else list(spellings)
    known = {spelling: id_ for id_, spelling in enumerate(spelled or [])}
    n_first = n_ids = spellings if isinstance(spellings, int) else len(spellings)
    merges: list[tuple[int, int, int]] = []
    table = PairTable(sequences)
    while n_ids < n_first + wanted:
        (left, right), count = table.commonest()
        if count < least:
            break
        new = n_ids
        if spelled is not None:
            spelling = spelled[left] + spelled[right]
            new = known.setdefault(spelling, n_ids)
            if new == n_ids:
                spelled.append(spelling)
        n_ids = max(n_ids, new + 1)
        merges.append((left, right, new))
        table.merge((left, right), new)
        tell(n_ids - n_first)
    return np.array(merges, np.int32).reshape(-1, 3)


class PairTable:
    """How often each pair of ids occurs in words, and in which of them.

    Args:
        sequences: words as ids.
    """

    def __init__(self, sequences: Sequences) -> None:
        self._words = [ids for ids, _ in sequences]
        self._weights = [count for _, count in sequences]
        self._counts: dict[Pair, int] = defaultdict(int)
        self._places: dict[Pair, set[int]] = defaultdict(set)
        for place, (ids, weight) in enumerate(zip(self._words, self._weights, strict=True)):
            for pair in pairwise(ids):
                self._counts[pair] += weight
                self._places[pair].add(place)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def commonest(self) -> tuple[Pair, int]:
        """The pair to merge next and its count; count 0 where no pair is left.

        A count that has risen is in the heap anew; one that has fallen is put right only here.
        """
        while self._heap:
            negative, pair = self._heap[0]
            count = self._counts[pair]
            if count == -negative:
                return pair, count
            if count:
                heapq.heapreplace(self._heap, (-count, pair))
            else:
                heapq.heappop(self._heap)
        return (0, 0), 0

    def merge(self, pair: Pair, new: int) -> None:
        """Replace ``pair`` by ``new`` in every word."""
        changes: dict[Pair, int] = defaultdict(int)
        for place in self._places.pop(pair):
            ids = self._words[place]
            merged = replace_pair(ids, pair, new)
            if len(merged) == len(ids):
                continue  # an earlier merge took the pair out of this word
            self._words[place] = merged
            weight = self._weights[place]
            for old in pairwise(ids):
                changes[old] -= weight
            for now in pairwise(merged):
                changes[now] += weight
                self._places[now].add(place)
        for changed, by in changes.items():
            self._counts[changed] += by
            if by > 0:
                heapq.heappush(self._heap, (-self._counts[changed], changed))


def check_vocab_size(vocab_size: int, special_tokens: Sequence[str]) -> None:
    """Refuse a vocabulary that cannot hold all bytes and special tokens."""
    least = 256 + len(special_tokens)
    if vocab_size < least:
        names = ", ".join(special_tokens)
        raise TokenizerError(
            f"a vocabulary of {vocab_size} is too small: 256 bytes"
            + (f" and {names}" if names else "")
            + f" take {least}",
            where="vocab_size",
            cure=f"Ask for at least {least}.",
        )


def too_little_text(
    reached: int, wanted: int, vocab_size: int, min_frequency: int
) -> TokenizerError:
    """The error for a vocabulary that the text cannot fill."""
    most = vocab_size - wanted + reached
    return TokenizerError(
        f"a vocabulary of {vocab_size} needs {wanted} merges, but the text gives {reached}: "
        f"then no pair occurs {min_frequency} times",
        where="vocab_size",
        cure=f"Give more text, ask for at most {most}, or accept fewer "
        "(--allow-fewer, in Python allow_fewer=True).",
    )
