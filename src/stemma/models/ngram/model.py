"""The interpolated n-gram language model."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.models.ngram.counting import count_ngrams
from stemma.models.ngram.counts import UNSEEN, Integers, NGramCounts, check_tokens
from stemma.models.ngram.kneser_ney import Interpolation, kneser_ney


class NGram:
    """Predicts a token from the ``order - 1`` tokens before it: interpolated modified Kneser-Ney.

    Order 0 is the uniform distribution 1 / vocab_size, to which order 1 is interpolated, order 2 to
    order 1, and so on, so nothing has probability 0. The highest order uses occurrences, all below
    it continuations. Where the history is shorter than ``order - 1`` tokens (the beginning of a
    text or of a window) or never occurred, the order that fits decides.

    With an end-of-text token a history begins at the last one: like the training documents, a text
    should be given with end-of-text before its first token.

    Shannon 1948, "A mathematical theory of communication"; Kneser & Ney 1995; Chen & Goodman 1999.

    Args:
        counts: from `count_ngrams`.
        order: at most that of the counts, which is the default.

    Raises:
        ModelError: if the counts do not reach to ``order``, or it is negative.
    """

    context_length: None = None
    """Any length of input is accepted; only the last ``order - 1`` tokens matter."""

    def __init__(self, counts: NGramCounts, order: int | None = None) -> None:
        order = counts.order if order is None else order
        if not 0 <= order <= counts.order:
            raise ModelError(
                f"order {order} is not within 0..{counts.order}",
                cure=f"Fit with order={order} to count longer grams." if order > 0 else None,
            )
        self.counts = counts
        self.order = order
        self.vocab_size = counts.vocab_size
        self.end_of_text = counts.end_of_text

    @classmethod
    def fit(
        cls, tokens: ArrayLike, order: int, *, vocab_size: int, end_of_text: int | None = None
    ) -> Self:
        """Count the grams of ``tokens`` (see `count_ngrams`) and return the model of that order."""
        return cls(
            count_ngrams(tokens, max(order, 1), vocab_size=vocab_size, end_of_text=end_of_text),
            order,
        )

    def at_order(self, order: int) -> Self:
        """The model of another order on the same counts: exactly what fitting it would give."""
        return type(self)(self.counts, order)

    @cached_property
    def _levels(self) -> list[Interpolation]:
        below = [self._smoothed(length, highest=False) for length in range(1, self.order)]
        return [*below, self._smoothed(self.order, highest=True)] if self.order else []

    def _smoothed(self, length: int, *, highest: bool) -> Interpolation:
        level = self.counts.levels[length - 1]
        return kneser_ney(level, self.vocab_size, continuations=not highest)

    def token_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq-1"]:
        """``log p(ids[:, t + 1] | ids[:, :t + 1])`` in nats, float64, without whole distributions.

        Raises:
            ModelError: if an id is outside the vocabulary.
        """
        return torch.from_numpy(np.log(self._token_probs(ids, by_order=False)[0]))

    def token_log_probs_by_order(
        self, ids: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "order+1 batch seq-1"]:
        """`token_log_probs` of the models of order 0, 1, ..., `order` in one pass.

        Raises:
            ModelError: if an id is outside the vocabulary.
        """
        return torch.from_numpy(np.log(self._token_probs(ids, by_order=True)))

    def _token_probs(self, ids: Tensor, *, by_order: bool) -> NDArray[np.float64]:
        tokens = self._as_array(ids)
        lower = np.full((len(tokens), max(tokens.shape[1] - 1, 0)), 1 / self.vocab_size)
        probs = [lower]
        walk = self.counts.walk(tokens, self.order)
        for length, (contexts, grams) in enumerate(walk, start=1):
            seen = contexts[:, 1:], grams[:, 1:]
            highest = length == self.order
            if by_order or highest:
                weights = self._levels[-1] if highest else self._smoothed(length, highest=True)
                probs.append(self._interpolate(length, weights, *seen, lower, highest=True))
            if not highest:
                weights = self._levels[length - 1]
                lower = self._interpolate(length, weights, *seen, lower, highest=False)
        return np.stack(probs) if by_order else probs[-1][None]

    def _interpolate(
        self,
        length: int,
        weights: Interpolation,
        contexts: Integers,
        grams: Integers,
        lower: NDArray[np.float64],
        *,
        highest: bool,
    ) -> NDArray[np.float64]:
        level = self.counts.levels[length - 1]
        scale, backoff = self._weights_of(weights, contexts)
        share = weights.discounted(level.count(grams, continuations=not highest))
        return np.asarray(share * scale + backoff * lower)

    def _weights_of(
        self, weights: Interpolation, contexts: Integers
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``1 / c(h)`` and ``lambda(h)`` of each context; of one seen once they are 1 and D1."""
        single = contexts < UNSEEN
        scale = single.astype(np.float64)
        backoff = np.where(single, weights.discounts[1], 1.0)
        node = contexts >= 0
        scale[node] = weights.scale[contexts[node]]
        backoff[node] = weights.backoff[contexts[node]]
        return scale, backoff

    def next_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """Log-probabilities of every next token after each position, in nats, float32.

        Raises:
            ModelError: if an id is outside the vocabulary.
        """
        tokens = self._as_array(ids)
        after = np.zeros((len(tokens), 1), dtype=tokens.dtype)  # any token: its contexts are asked
        probs = np.full((tokens.size, self.vocab_size), 1 / self.vocab_size)
        walk = self.counts.walk(np.concatenate([tokens, after], axis=1), self.order)
        for length, (contexts, _) in enumerate(walk, start=1):
            self._add_level(probs, length, self._levels[length - 1], contexts[:, 1:].ravel())
        log_probs = np.log(probs).astype(np.float32)
        return torch.from_numpy(log_probs.reshape(*tokens.shape, -1)).to(ids.device)

    def _add_level(
        self,
        probs: NDArray[np.float64],
        length: int,
        weights: Interpolation,
        contexts: Integers,
    ) -> None:
        """Interpolate whole distributions, one row for each context, in place."""
        level = self.counts.levels[length - 1]
        highest = length == self.order
        if level.keys is None or level.references is None:
            share = weights.discounted(level.node_counts(continuations=not highest))
            probs *= weights.backoff[0]
            probs += share * weights.scale[0]
            return
        scale, backoff = self._weights_of(weights, contexts)
        seen = np.flatnonzero(contexts != UNSEEN)
        probs[seen] *= backoff[seen, None]
        single = np.flatnonzero(contexts < UNSEEN)
        probs[single, self.counts.text[-2 - contexts[single]]] += 1 - weights.discounts[1]
        node = np.flatnonzero(contexts >= 0)
        keys = contexts[node] * self.vocab_size
        first, last = np.searchsorted(
            level.keys, np.stack([keys, keys + self.vocab_size]).astype(level.keys.dtype)
        )
        row = np.repeat(node, last - first)
        place = np.arange(len(row)) + np.repeat(first - _exclusive_sum(last - first), last - first)
        counts = level.count(level.references[place], continuations=not highest)
        token = level.keys[place].astype(np.int64) % self.vocab_size
        probs[row, token] += weights.discounted(counts) * scale[row]

    def _as_array(self, ids: Tensor) -> Integers:
        if ids.ndim != 2:
            raise ModelError(f"ids must have the shape (batch, seq), not {tuple(ids.shape)}")
        return check_tokens(ids.detach().cpu().numpy(), self.vocab_size)


def _exclusive_sum(sizes: Integers) -> Integers:
    return np.cumsum(sizes) - sizes
