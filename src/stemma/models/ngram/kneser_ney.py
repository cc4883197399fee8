"""Interpolated modified Kneser-Ney: what each level of counts says, and how much it leaves below.

For a context h and a token w at one level,

    p(w | h) = (c(h w) - D(c(h w))) / c(h)  +  lambda(h) p(w | h without its first token)

    lambda(h) = (D1 N1(h) + D2 N2(h) + D3 N3+(h)) / c(h)

with N_j(h) the number of tokens that follow h exactly j times, and three discounts for each level,
estimated from the number n_j of its grams with count j:

    Y = n1 / (n1 + 2 n2),    D_j = j - (j + 1) Y n_{j+1} / n_j

(Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section
3; Kneser & Ney 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemma.models.ngram.counts import Integers, Level


@dataclass(frozen=True)
class Interpolation:
    """One level of an interpolated model: ``p = share + backoff * p_lower``.

    Attributes:
        discounts: what is taken from a count of 0, 1, 2, and 3 or more.
        scale: 1 / c(h) of each context that is a node; 0 where nothing followed it.
        backoff: lambda(h) of each; 1 where nothing followed it, so the lower level decides.
    """

    discounts: NDArray[np.float64]
    scale: NDArray[np.float64]
    backoff: NDArray[np.float64]

    def discounted(self, counts: Integers) -> NDArray[np.float64]:
        """``c - D(c)`` of each count."""
        return np.asarray(counts - self.discounts[np.minimum(counts, 3)])


def modified_discounts(counts_of_counts: Sequence[int]) -> NDArray[np.float64]:
    """``[0, D1, D2, D3]`` from ``[n1, n2, n3, n4]``.

    Small or repetitive texts leave an n_j at 0, where the formula says nothing or takes all away:
    D_j is then D_{j-1}, and without n1 or n2 every discount is 1/2. Each is held between D_{j-1}
    and j, so that no share is negative and every context leaves something to the level below.
    """
    n = [0, *counts_of_counts]
    if n[1] == 0 or n[2] == 0:
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n[1] / (n[1] + 2 * n[2])
    discounts = [0.0]
    for j in (1, 2, 3):
        estimate = j - (j + 1) * y * n[j + 1] / n[j] if n[j] and n[j + 1] else 0.0
        discounts.append(min(max(estimate, discounts[-1]), j))
    return np.array(discounts)


def kneser_ney(level: Level, vocab_size: int, *, continuations: bool) -> Interpolation:
    """Estimate a level: the highest from its occurrences, one below from its continuations."""
    nodes = level.node_counts(continuations=continuations)
    histogram = np.bincount(np.minimum(nodes, 5), minlength=6)
    seen_once = level.n_tails
    if level.references is not None:
        seen_once += len(level.references) - len(nodes)
    discounts = modified_discounts([int(histogram[1]) + seen_once, *map(int, histogram[2:5])])
    if level.keys is None or level.references is None:
        counts, contexts = nodes, np.zeros(1, dtype=np.int64)
        first = np.zeros(1, dtype=np.int64)
    else:
        counts = level.count(level.references, continuations=continuations)
        parents = level.keys // level.keys.dtype.type(vocab_size)
        first = np.flatnonzero(np.diff(parents, prepend=parents[:1] + 1))
        contexts = parents[first]
    scale, backoff = np.zeros(level.n_contexts), np.ones(level.n_contexts)
    if len(first):
        totals = np.add.reduceat(counts.astype(np.int64), first)
        taken = np.add.reduceat(discounts[np.minimum(counts, 3)], first)
        scale[contexts] = 1 / totals
        backoff[contexts] = taken / totals
    return Interpolation(discounts, scale, backoff)
