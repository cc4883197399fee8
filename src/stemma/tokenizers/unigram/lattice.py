"""All segmentations of all words into known pieces, and sums over them.

The pieces that begin at each place of a word are edges; a path over edges from the beginning of the
word to its end is a segmentation x with probability P(x) = Π p(piece). There are exponentially
many, but what the trainer needs of them are sums along the places (forward-backward, Baum 1972).

The functions here are the readable form of those in `stemma.tokenizers.kernels.unigram_train`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEPARATOR = "\ud800"
"""Ends each word of a `Lattice`: half a surrogate pair, which no text holds."""


@dataclass(frozen=True)
class Lattice:
    """Which pieces begin at which place of the words.

    Args:
        text: the distinct words, `SEPARATOR` after each.
        starts: where each word begins; one more, where the last ends. Shape (words + 1,).
        weights: how often each word occurs.
        first: ``edges[first[i]:first[i + 1]]`` begin at place i, the shortest first.
        edges: numbers of pieces.
        where: a place where each piece begins.
        lengths: of each piece, in characters.
    """

    text: str
    starts: NDArray[np.int64]
    weights: Floats
    first: NDArray[np.int64]
    edges: NDArray[np.int32]
    where: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, words: Mapping[str, int], pieces: Sequence[str]) -> Lattice:
        """Look up every substring of every word.

        Args:
            words: word -> count.
            pieces: in the order of their numbers; each must occur.
        """
        numbers = {piece: k for k, piece in enumerate(pieces)}
        longest = max(map(len, pieces), default=0)
        text, starts = joined(words)
        where = np.zeros(len(pieces), np.int64)
        edges: list[int] = []
        first = [0]
        for i in range(len(text)):
            for j in range(i + 1, i + 1 + longest):
                k = numbers.get(text[i:j])
                if k is not None:
                    edges.append(k)
                    where[k] = i
            first.append(len(edges))
        return cls(
            text,
            starts,
            np.array([*words.values()], np.float64),
            np.array(first, np.int64),
            np.array(edges, np.int32),
            where,
            np.array([*map(len, pieces)], np.int32),
        )

    def pieces(self) -> list[str]:
        """The pieces as text, in the order of their numbers."""
        places = zip(self.where.tolist(), self.lengths.tolist(), strict=True)
        return [self.text[start : start + length] for start, length in places]

    def keep(self, mask: NDArray[np.bool_]) -> Lattice:
        """The lattice of those pieces alone for which ``mask`` is true."""
        left = mask[self.edges]
        numbers = np.cumsum(mask, dtype=np.int32) - 1
        return replace(
            self,
            first=np.concatenate([[0], np.cumsum(left)])[self.first],
            edges=numbers[self.edges[left]],
            where=self.where[mask],
            lengths=self.lengths[mask],
        )

    def edges_at(self, place: int) -> list[tuple[int, int]]:
        """The pieces that begin at a place: number and length."""
        numbers = self.edges[self.first[place] : self.first[place + 1]]
        return [(k, int(self.lengths[k])) for k in numbers.tolist()]


def joined(words: Iterable[str]) -> tuple[str, NDArray[np.int64]]:
    """The words, a separator after each, and where each begins (and the last ends)."""
    ended = [word + SEPARATOR for word in words]
    lengths = [*map(len, ended)]
    text = "".join(ended)
    return text, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def expected_counts(lattice: Lattice, log_p: Floats) -> tuple[Floats, float]:
    """E-step: how often each piece is used, over all segmentations, and the log-likelihood.

    Forward, α[j] = Σ α[i] p(piece from i to j): the probability of all ways to get to j; backward,
    β[i] likewise from i to the end. A word w has the probability Z = α[end], and uses the piece k
    from i to j with α[i] p(k) β[j] / Z. Both sums weigh each word by how often it occurs.

    Args:
        lattice: of the words.
        log_p: log-probability of each piece, shape (pieces,).

    Returns:
        Expected counts, shape (pieces,), and Σ count(w) log Z(w), in nats.
    """
    counts = np.zeros(len(log_p))
    total = 0.0
    for word, weight in enumerate(lattice.weights.tolist()):
        start, end = int(lattice.starts[word]), int(lattice.starts[word + 1]) - 1
        edges = [
            [(k, i + length, float(log_p[k])) for k, length in lattice.edges_at(start + i)]
            for i in range(end - start)
        ]
        forward = [0.0] + [-math.inf] * len(edges)
        for i, here in enumerate(edges):
            for _, j, score in here:
                forward[j] = log_add(forward[j], forward[i] + score)
        backward = [-math.inf] * len(edges) + [0.0]
        for i in reversed(range(len(edges))):
            for k, j, score in edges[i]:
                backward[i] = log_add(backward[i], score + backward[j])
                counts[k] += weight * math.exp(forward[i] + score + backward[j] - forward[-1])
        total += weight * forward[-1]
    return counts, total


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)), without overflow."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def losses(lattice: Lattice, log_p: Floats, counts: Floats) -> Floats:
    """What each piece is worth: how much log-likelihood is lost without it, in nats.

    Where piece x stood, f(x) times, there stands then the best segmentation a₁ … aₘ of its text
    into other pieces, and their counts rise by f(x). With F = Σ f,

        loss(x) = f(x) [log f(x)/F - Σᵢ log (f(aᵢ) + f(x)) / (F + (m - 1) f(x))].

    That is what ``sentencepiece`` computes from the counts of the best segmentation of each word; f
    are here the expected counts of the E-step. It leaves out that others may go as well.

    Args:
        lattice: of the words.
        log_p: log-probability of each piece.
        counts: f, the expected counts.

    Returns:
        The loss of each piece; infinite where others cannot spell it, as for each character.
    """
    total = float(counts.sum())
    result = np.full(len(counts), np.inf)
    for x, f in enumerate(counts.tolist()):
        others = _best_without(lattice, log_p, x)
        if others:
            after = total + (len(others) - 1) * f
            spelled_out = np.log((counts[others] + f) / after).sum() if f else 0.0
            result[x] = f * (math.log(f / total) - spelled_out) if f else 0.0
    return result


def _best_without(lattice: Lattice, log_p: Floats, x: int) -> list[int]:
    """The best segmentation of piece ``x`` into others (Viterbi 1967); empty if there is none."""
    start, length = int(lattice.where[x]), int(lattice.lengths[x])
    best = [(0.0, -1)] + [(-math.inf, -1)] * length
    for i in range(length):
        for k, size in lattice.edges_at(start + i):
            score = best[i][0] + float(log_p[k])
            if k != x and i + size <= length and score > best[i + size][0]:
                best[i + size] = score, k
    path: list[int] = []
    while length and best[-1][0] > -math.inf:
        path.append(best[length][1])
        length -= int(lattice.lengths[path[-1]])
    return path[::-1]
