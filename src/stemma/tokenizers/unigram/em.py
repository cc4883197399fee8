"""The steps of Unigram training: expectation, maximisation, and the removal of pieces."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.unigram import lattice as readable
from stemma.tokenizers.unigram.lattice import Floats, Lattice, joined
from stemma.tokenizers.unigram.seeds import fast_seed_lattice, seed_lattice

LEAST_COUNT = 0.5
"""A piece expected less often is dropped; one that must stay is taken to be that frequent."""

_PARTS = 8  # of the words, each summed by itself: the sums do not depend on the number of threads
_DIGITS = 6  # values that differ less are taken as equal: they would by different arithmetic
_WORK = 5  # a character of a word takes this much more time than one of a text to encode


class UnigramTraining:
    """The state of a training, and the steps that it takes.

    Args:
        words: word -> count; none empty.
        required: pieces that must be there, whether they occur or not.
        max_piece_length: in characters.
        min_count: how often a candidate must occur.
        seed_size: how many candidates there are at most.
        fast: whether to use machine code; if None, where there is enough text.
    """

    def __init__(
        self,
        words: Mapping[str, int],
        required: Sequence[str] = (),
        *,
        max_piece_length: int = 16,
        min_count: int = 3,
        seed_size: int = 1_000_000,
        fast: bool | None = None,
    ) -> None:
        size = sum(map(len, words))
        self._fast = kernels.worth(size * _WORK) if fast is None else fast
        text, _ = joined(words)
        self._absent = sorted({piece for piece in required if piece not in text})
        present = {piece for piece in required if piece in text}
        self.lattice, counts = (fast_seed_lattice if self._fast else seed_lattice)(
            words, present, max_length=max_piece_length, min_count=min_count, seed_size=seed_size
        )
        self._stays = self.lattice.lengths == 1
        if present:
            self._stays |= np.array([piece in present for piece in self.lattice.pieces()])
        self.counts = counts * self.lattice.lengths
        self.log_p = m_step(self.counts, digamma=False)

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.log_p) + len(self._absent)

    def reachable(self, vocab_size: int, *, besides: int = 0, allow_fewer: bool) -> int:
        """How many pieces there can be: ``vocab_size``, or fewer if that is allowed.

        Messages count ``besides`` more, which the vocabulary has and training does not learn.

        Raises:
            TokenizerError: if there are too few, or too many that must stay.
        """
        least = int(self._stays.sum()) + len(self._absent)
        if vocab_size < least:
            characters = int((self.lattice.lengths == 1).sum())
            raise TokenizerError(
                f"a vocabulary of {vocab_size + besides} pieces is too small: the text has "
                f"{characters} different characters; with all that must be there that makes "
                f"{least + besides}",
                where="vocab_size",
                cure=f"Ask for at least {least + besides}, or (in Python) lower "
                "character_coverage.",
            )
        if vocab_size > len(self) and not allow_fewer:
            raise TokenizerError(
                f"a vocabulary of {vocab_size + besides} pieces cannot be filled: the text has "
                f"{len(self)} that are common enough",
                where="vocab_size",
                cure=f"Give more text, ask for at most {len(self) + besides}, or accept fewer "
                "(--allow-fewer, in Python allow_fewer=True; there min_count can be lowered, too).",
            )
        return min(vocab_size, len(self))

    def em_step(self, *, digamma: bool) -> float:
        """Count the pieces with the probabilities there are, and take new ones from the counts.

        Returns:
            The log-likelihood of the words under the old probabilities, in nats.
        """
        if self._fast:
            self.counts, likelihood = _fast_expected_counts(self.lattice, self.log_p)
        else:
            self.counts, likelihood = readable.expected_counts(self.lattice, self.log_p)
        self.log_p = m_step(self.counts, digamma=digamma)
        return likelihood

    def drop_rare(self, wanted: int) -> None:
        """Drop the pieces that the last E-step expects less than `LEAST_COUNT` times.

        Never so many that fewer than ``wanted`` would be left, nor any that must stay.
        """
        rare = ~self._stays & (self.counts < LEAST_COUNT - 10**-_DIGITS)
        if rare.any():
            worth = np.where(self._stays, np.inf, self.counts)
            self._keep(worth, max(wanted, len(self) - int(rare.sum())))

    def prune(self, to: int) -> None:
        """Keep the ``to`` pieces whose loss would cost the most."""
        if self._fast:
            from stemma.tokenizers.kernels.unigram_train import losses

            lattice = self.lattice
            loss = losses(
                lattice.first,
                lattice.edges,
                lattice.where,
                lattice.lengths,
                self.log_p,
                self.counts,
            )
        else:
            loss = readable.losses(self.lattice, self.log_p, self.counts)
        self._keep(np.where(self._stays, np.inf, loss), to)

    def _keep(self, worth: Floats, to: int) -> None:
        best = np.argsort(-np.round(worth, _DIGITS), kind="stable")[: to - len(self._absent)]
        mask = np.zeros(len(worth), bool)
        mask[best] = True
        self.lattice = self.lattice.keep(mask)
        self.log_p, self.counts, self._stays = (
            self.log_p[mask],
            self.counts[mask],
            self._stays[mask],
        )

    def pieces(self) -> list[tuple[str, float]]:
        """Pieces and log-probabilities, the most probable first."""
        counts = np.concatenate([self.counts, np.zeros(len(self._absent))])
        log_p = m_step(counts, digamma=False).tolist()
        scored = zip([*self.lattice.pieces(), *self._absent], log_p, strict=True)
        return sorted(scored, key=lambda one: (-round(one[1], _DIGITS), one[0]))


def m_step(counts: Floats, *, digamma: bool, least: float = LEAST_COUNT) -> Floats:
    """Log-probabilities from expected counts c, none taken as less than ``least``.

    Maximum likelihood: log p = log c - log Σ c. With ``digamma``: log p = ψ(c) - ψ(Σ c), the mean
    of log p where p has a Dirichlet prior so flat that it is all but absent (Liang and Klein 2007,
    "Structured Bayesian nonparametric models"; variational Bayes). ψ(c) is about log(c - 1/2): rare
    pieces lose more than common ones, so that those of little use fade sooner.

    Args:
        counts: expected counts.
        digamma: which of the two.
        least: keeps the logarithm of what is not expected at all from being -∞.
    """
    c = np.maximum(counts, least)
    total = c.sum()
    return digamma_function(c) - digamma_function(total[None]) if digamma else np.log(c / total)


def digamma_function(x: Floats) -> Floats:
    """ψ(x) = d log Γ(x) / dx for x > 0: the asymptotic series, begun at 7 or above.

    ψ(x) = ψ(x + 1) - 1/x; for large x, ψ(x) ~ log x - 1/2x - Σₖ B₂ₖ / 2k x²ᵏ. Exact to 1e-12.
    """
    x = np.array(x, np.float64)
    result = np.zeros_like(x)
    while (small := x < 7).any():
        result[small] -= 1 / x[small]
        x[small] += 1
    y = 1 / (x * x)
    series = np.zeros_like(x)
    for coefficient in (-691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12):
        series = y * (coefficient + series)
    return result + np.log(x) - 0.5 / x - series


def _fast_expected_counts(lattice: Lattice, log_p: Floats) -> tuple[Floats, float]:
    """`expected_counts` by machine code, on all cores."""
    from stemma.tokenizers.kernels.unigram_train import expected_counts

    p = np.exp(log_p)
    edges_before = lattice.first[lattice.starts]
    goals = np.linspace(0, len(lattice.edges), _PARTS + 1)
    cuts = np.searchsorted(edges_before, goals).tolist()

    def part(bounds: tuple[int, int]) -> tuple[Floats, float]:
        one, other = bounds
        result: tuple[Floats, float] = expected_counts(
            lattice.starts[one : other + 1],
            lattice.weights[one:other],
            lattice.first,
            lattice.edges,
            lattice.lengths,
            log_p,
            p,
        )
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = list(pool.map(part, pairwise(cuts)))
    counts = np.sum([counts for counts, _ in sums], axis=0)
    return counts, math.fsum(likelihood for _, likelihood in sums)
