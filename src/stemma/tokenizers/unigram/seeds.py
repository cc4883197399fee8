"""The pieces that Unigram training begins with: all that could be worth a place in the vocabulary.

A piece is a candidate if it occurs a few times and no longer piece occurs just as often: of
``▁Valkyri`` and ``▁Valkyria``, always together, only the longer can be of use. What is left are the
nodes of the suffix tree that differ on both sides, far fewer than there are substrings.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.unigram.lattice import SEPARATOR, Floats, Lattice, joined
from stemma.tokenizers.unigram.suffix_array import common_prefixes, suffix_array


def frequent_substrings(
    words: Mapping[str, int], max_length: int, min_count: int
) -> dict[str, int]:
    """The candidates of two to ``max_length`` characters with their counts; the readable form."""
    counts: Counter[str] = Counter()
    for word, n in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(start + max_length, len(word)) + 1):
                counts[word[start:end]] += n
    implied = {
        part
        for piece, n in counts.items()
        for part in (piece[1:], piece[:-1])
        if counts.get(part) == n
    }
    return {piece: n for piece, n in counts.items() if n >= min_count and piece not in implied}


def seed_lattice(
    words: Mapping[str, int],
    required: Iterable[str],
    *,
    max_length: int,
    min_count: int,
    seed_size: int,
) -> tuple[Lattice, Floats]:
    """The first lattice and how often each of its pieces occurs, overlaps included; readable form.

    Its pieces are all characters, the best candidates and the required pieces, in the order of
    their code points.

    Args:
        words: word -> count.
        required: further pieces, each of which must occur.
        max_length: of a candidate, in characters.
        min_count: how often a candidate must occur.
        seed_size: at most that many candidates: those with the largest count x length, of equals
            the longest, then the first in the order of code points.
    """
    candidates = frequent_substrings(words, max_length, min_count)
    best = sorted(candidates, key=lambda c: (-candidates[c] * len(c), -len(c), c))[:seed_size]
    lattice = Lattice.of(words, sorted({*"".join(words), *best, *required}))
    edges_per_word = np.diff(lattice.first[lattice.starts])
    weight = np.repeat(lattice.weights, edges_per_word)
    return lattice, np.bincount(lattice.edges, weight).astype(np.float64)


def fast_seed_lattice(
    words: Mapping[str, int],
    required: Iterable[str],
    *,
    max_length: int,
    min_count: int,
    seed_size: int,
) -> tuple[Lattice, Floats]:
    """`seed_lattice` from a suffix array: there every piece is a run of neighbours."""
    from stemma.tokenizers.kernels.unigram_train import match

    suffixes = WordSuffixes(words)
    left, right, length = suffixes.candidates(max_length, min_count)
    score = (suffixes.weight_before[right] - suffixes.weight_before[left]) * length
    best = np.lexsort((left, -length, -score))[:seed_size]
    others = [suffixes.run_of(piece) for piece in {*"".join(words), *required}]
    runs = np.concatenate([np.stack([left, length, right], axis=1)[best], np.array(others)])
    runs = runs[np.lexsort((runs[:, 1], runs[:, 0]))]  # the order of code points
    again = np.append(False, (runs[1:] == runs[:-1]).all(axis=1))
    left, length, right = np.ascontiguousarray(runs[~again].T)
    open_runs = np.bincount(left, minlength=suffixes.n + 1)
    open_runs -= np.bincount(right, minlength=suffixes.n + 1)
    edges_at = np.empty(suffixes.n, np.int64)
    edges_at[suffixes.order] = np.cumsum(open_runs)[:-1]
    first = np.concatenate([[0], np.cumsum(edges_at)])
    lattice = Lattice(
        suffixes.text,
        suffixes.starts,
        suffixes.weights,
        first,
        match(suffixes.order, left, right, first),
        suffixes.order[left],
        length.astype(np.int32),
    )
    return lattice, suffixes.weight_before[right] - suffixes.weight_before[left]


class WordSuffixes:
    """The suffixes of all words in sorted order.

    Args:
        words: word -> count; not empty.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        self.text, self.starts = joined(words)
        self.n = len(self.text)
        self.weights = np.array([*words.values()], np.float64)
        codes = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        # The separator comes before all characters.
        ranked = np.where(codes == ord(SEPARATOR), 0, codes + 1)
        self.alphabet, self.symbols = np.unique(ranked, return_inverse=True)
        self.order = suffix_array(self.symbols)
        sizes = np.diff(self.starts)
        weight = np.repeat(self.weights, sizes)
        self.weight_before = np.concatenate([[0.0], np.cumsum(weight[self.order])])
        self.room = (np.repeat(self.starts[1:], sizes) - np.arange(self.n) - 1)[self.order]

    def candidates(
        self, max_length: int, min_count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The candidates: ``order[left:right]`` is where each occurs; left, right, length."""
        from stemma.tokenizers.kernels.suffix_array import repeats

        room = np.minimum(self.room, max_length).astype(np.int32)
        shared = np.minimum(common_prefixes(self.symbols, self.order), room)
        left, right, length = repeats(shared, room)
        count = self.weight_before[right] - self.weight_before[left]
        chosen = (length > 1) & (count >= min_count)
        chosen &= (length == max_length) | ~self._has_one_left_neighbour(left, right)
        return left[chosen], right[chosen], length[chosen].astype(np.int64)

    def _has_one_left_neighbour(
        self, left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether the same character stands before all suffixes of each run."""
        before = self.symbols[self.order - 1]  # what comes before the first is a separator
        changes = np.concatenate([[0], np.cumsum(before[1:] != before[:-1])])
        one: NDArray[np.bool_] = (changes[right - 1] == changes[left]) & (before[left] > 0)
        return one

    def run_of(self, piece: str) -> tuple[int, int, int]:
        """Left, length, right of any piece that occurs."""
        wanted = np.searchsorted(self.alphabet, [ord(c) + 1 for c in piece]).tolist()

        def begins(i: int) -> list[int]:
            place = self.order[i]
            found: list[int] = self.symbols[place : place + len(wanted)].tolist()
            return found

        every = range(self.n)
        left = bisect_left(every, wanted, key=begins)
        return left, len(wanted), bisect_right(every, wanted, lo=left, key=begins)
