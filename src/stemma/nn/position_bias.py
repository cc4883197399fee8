"""Positions as biases of attention scores: a penalty of distance, or a learned table of it."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class PositionBias(nn.Module):
    """What is added to the scores of each head, by the two positions alone."""

    @abstractmethod
    def forward(
        self, queries: Int[Tensor, "*batch query"], keys: Int[Tensor, "*batch key"]
    ) -> Float[Tensor, "*batch n_heads query key"]:
        """The biases of positions ``queries`` that look at positions ``keys``."""


class Alibi(PositionBias):
    r"""A penalty proportional to the distance, :math:`-m_h \, |i - j|`, with a slope for each head.

    Slopes are :math:`2^{-8h/H}`, h from 1 to H. If H is no power of two, the first heads have those
    of the power of two below it, and the others every second slope of the one above. Nothing is
    learned, so a model may read longer texts than those it was trained on.

    Press et al. 2021, arXiv:2108.12409, section 3.

    Args:
        n_heads: H.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.slopes = alibi_slopes(n_heads)

    def forward(
        self, queries: Int[Tensor, "*batch query"], keys: Int[Tensor, "*batch key"]
    ) -> Float[Tensor, "*batch n_heads query key"]:
        """The penalties, in float32: zero at a position itself, below zero elsewhere."""
        distance = (queries.unsqueeze(-1) - keys.unsqueeze(-2)).abs().unsqueeze(-3)
        slopes = torch.tensor(self.slopes, device=queries.device)
        return -slopes.view(-1, 1, 1) * distance

    def extra_repr(self) -> str:
        """Number of heads."""
        return f"{len(self.slopes)}"


def alibi_slopes(n_heads: int) -> list[float]:
    """The slopes of ``n_heads`` heads; see `Alibi`."""
    below = 1 << (n_heads.bit_length() - 1)
    slopes = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    above = [2 ** (-4 * h / below) for h in range(1, 2 * below + 1)]
    return slopes + above[::2][: n_heads - below]


class RelativeBuckets(PositionBias):
    """A learned number for each head and each bucket of distances, shared by all layers.

    Half of the buckets are one distance each; the others widen logarithmically up to
    ``max_distance``, and the last holds all beyond. If later positions may be seen, half of all
    buckets are for those.

    Raffel et al. 2020 (T5), arXiv:1910.10683, section 2.1.

    Args:
        n_heads: heads of queries.
        n_buckets: rows of the table.
        max_distance: the distance from which on all are alike.
        causal: whether only earlier positions are seen.
    """

    def __init__(
        self, n_heads: int, *, n_buckets: int = 32, max_distance: int = 128, causal: bool = True
    ) -> None:
        super().__init__()
        self.n_buckets = n_buckets
        self.max_distance = max_distance
        self.causal = causal
        self.table = nn.Embedding(n_buckets, n_heads)

    def forward(
        self, queries: Int[Tensor, "*batch query"], keys: Int[Tensor, "*batch key"]
    ) -> Float[Tensor, "*batch n_heads query key"]:
        """The numbers of the buckets that the distances fall into."""
        back = queries.unsqueeze(-1) - keys.unsqueeze(-2)
        return self.table(self.bucket(back)).movedim(-1, -3)  # type: ignore[no-any-return]

    def bucket(self, back: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of a key that stands ``back`` positions before the query."""
        n = self.n_buckets if self.causal else self.n_buckets // 2
        ahead = torch.zeros_like(back) if self.causal else n * (back < 0)
        distance = back.clamp(min=0) if self.causal else back.abs()
        single = n // 2
        # A distance of 0 is `single` by itself; clamped, its logarithm is a number.
        ratio = torch.log(distance.clamp(min=1) / single) / math.log(self.max_distance / single)
        wide = (single + (ratio * (n - single)).long()).clamp(max=n - 1)
        return ahead + torch.where(distance < single, distance, wide)

    def extra_repr(self) -> str:
        """Distances and direction."""
        return f"max_distance={self.max_distance}, causal={self.causal}"
