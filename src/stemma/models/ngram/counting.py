"""From a text to the counts of its n-grams, level by level.

Each level sorts the positions whose context occurs elsewhere too. The others are tails (see
`counts`) and drop out, so the work shrinks as the order grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemma.errors import ModelError
from stemma.models.ngram.counts import Integers, Level, NGramCounts, check_tokens


def count_ngrams(
    tokens: ArrayLike, order: int, *, vocab_size: int, end_of_text: int | None = None
) -> NGramCounts:
    """Count all n-grams of ``tokens`` up to ``order``.

    Args:
        tokens: ids, one sequence; documents follow each other, each closed by ``end_of_text``.
        order: length of the longest grams, at least 1.
        vocab_size: number of token ids.
        end_of_text: id that closes a document. It is the first history of the next document (and
            of the first one), and no history reaches beyond it. None: one document, whose first
            tokens have shorter histories.

    Raises:
        ModelError: if there is no token, or one outside the vocabulary, or the order is below 1.
    """
    text = _text(tokens, vocab_size, end_of_text)
    if order < 1:
        raise ModelError(f"order {order} is below 1")
    predicted = text if end_of_text is None else text[1:]
    index = np.dtype(np.int32 if len(text) < 2**31 - 2 else np.int64)
    levels = [Level(None, None, 1, 0, np.bincount(predicted, minlength=vocab_size).astype(index))]
    node_at: Integers = text.astype(index)  # node of the gram below that starts here
    starts: Integers = np.arange(len(text)).astype(index)
    contexts = node_at.copy()
    for length in range(2, order + 1):
        going_on = starts < len(text) - (length - 1)
        if end_of_text is not None and length > 2:
            going_on[going_on] = text[starts[going_on] + (length - 2)] != end_of_text
        starts, contexts = starts[going_on], contexts[going_on]
        keys = contexts.astype(np.int64) * vocab_size + text[starts + (length - 1)]
        grams = _Sorted.of(keys, starts)
        levels[-1] = _with_continuations(levels[-1], node_at[grams.repeats() + 1])
        n_tails = _n_windows(text, length, end_of_text) - len(starts)
        n_contexts = len(levels[-1].occurrences)
        narrow = np.uint32 if n_contexts * vocab_size < 2**32 else np.int64
        level, starts, contexts = grams.group(length)
        levels.append(
            replace(level, keys=grams.distinct(narrow), n_contexts=n_contexts, n_tails=n_tails)
        )
        node_at[starts] = contexts
    return NGramCounts(text, levels, vocab_size, end_of_text)


def _text(tokens: ArrayLike, vocab_size: int, end_of_text: int | None) -> Integers:
    sequence = check_tokens(tokens, vocab_size)
    if sequence.ndim != 1 or len(sequence) == 0:
        raise ModelError(f"n-grams need one row of at least one token, not {sequence.shape}")
    narrow: np.dtype[np.unsignedinteger] = np.min_scalar_type(vocab_size - 1)
    sequence = sequence.astype(narrow)
    if end_of_text is None:
        return sequence
    return np.concatenate([check_tokens([end_of_text], vocab_size).astype(narrow), sequence])


@dataclass(frozen=True)
class _Sorted:
    """Occurrences of the grams of one level, sorted by key, then by position."""

    keys: Integers
    starts: Integers
    is_first: NDArray[np.bool_]  # of its gram

    @classmethod
    def of(cls, keys: NDArray[np.int64], starts: Integers) -> _Sorted:
        keys, starts = sort_by_key(keys, starts)
        is_first = np.ones(len(keys), dtype=bool)
        is_first[1:] = keys[1:] != keys[:-1]
        return cls(keys, starts, is_first)

    def repeats(self) -> Integers:
        """Where grams start that were met before."""
        return self.starts[~self.is_first]

    def distinct(self, dtype: type[np.integer]) -> Integers:
        return self.keys[self.is_first].astype(dtype)

    def group(self, length: int) -> tuple[Level, Integers, Integers]:
        """The level, and the positions that go on to the next one with their nodes."""
        first = np.flatnonzero(self.is_first)
        sizes = np.diff(first, append=len(self.keys)).astype(self.starts.dtype)
        is_node = sizes > 1
        occurrences = sizes[is_node]
        nodes = np.arange(len(occurrences), dtype=self.starts.dtype)
        references = -2 - (self.starts[first] + length)
        references[is_node] = nodes
        level = Level(None, references, 0, 0, occurrences)
        return level, self.starts[np.repeat(is_node, sizes)], np.repeat(nodes, occurrences)


def sort_by_key(keys: NDArray[np.int64], values: Integers) -> tuple[NDArray[np.int64], Integers]:
    """Sort pairs of non-negative integers by key, then value.

    Where both fit into 63 bits they are sorted as one integer, which is faster than an argsort.
    """
    if len(keys) == 0:
        return keys, values
    bits = int(values.max()).bit_length()
    if int(keys.max()).bit_length() + bits > 63:
        order = np.lexsort((values, keys))
        return keys[order], values[order]
    packed = keys << bits
    packed |= values
    packed.sort()
    return packed >> bits, (packed & ((1 << bits) - 1)).astype(values.dtype)


def _n_windows(text: Integers, length: int, end_of_text: int | None) -> int:
    """Stretches of ``length`` tokens with no end-of-text inside (as first or last it may stand)."""
    edges = np.array([0, len(text) - 1])
    if end_of_text is not None:
        edges = np.union1d(edges, np.flatnonzero(text == end_of_text))
    spans = np.diff(edges) + 1
    return int(np.maximum(spans - (length - 1), 0).sum())


def _with_continuations(level: Level, repeats: Integers) -> Level:
    # Each occurrence counts for one kind of left neighbour, except those whose gram with that
    # neighbour has been met before: `repeats` holds the nodes of these occurrences.
    again = np.bincount(repeats, minlength=len(level.occurrences))
    continuations = (level.occurrences - again).astype(level.occurrences.dtype)
    return replace(level, continuations=continuations)
