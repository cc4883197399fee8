"""What all attention layers of one pass share: how positions are turned, and who may see whom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stemma.nn.position import Rotation

Mask = Bool[Tensor, "#batch 1 query key"]
Bias = Float[Tensor, "#batch n_heads query key"]


class Sight(NamedTuple):
    """Where the positions of a pass stand and what they see.

    Attributes:
        rotation: of the positions that ask, for rotary embeddings.
        mask: True where a query may look; without one, ``causal`` decides.
        bias: added to the scores, as ALiBi and T5 do.
        causal: whether a query sees its own position and those before, or everything.
    """

    rotation: Rotation | None = None
    mask: Mask | None = None
    bias: Bias | None = None
    causal: bool = True


CAUSAL = Sight()
"""Own position and those before, and nothing else known of them."""


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where a query may look: at its own position and before; queries are the last ones."""
    everything = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return everything.tril(n_keys - n_queries)


def visible(
    queries: Int[Tensor, "*batch query"],
    keys: Int[Tensor, "*batch key"],
    *,
    causal: bool = True,
    window: int | None = None,
) -> Bool[Tensor, "*batch query key"]:
    """True where a position may look at another, by their distance alone.

    Args:
        queries: positions that ask.
        keys: positions that are asked.
        causal: whether only those not later are seen.
        window: how many are seen, itself included: of the last ones if causal, else of those to
            each side (Child et al. 2019, arXiv:1904.10509; Beltagy et al. 2020, arXiv:2004.05150).
    """
    distance = queries.unsqueeze(-1) - keys.unsqueeze(-2)
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen if window is None else seen & (distance.abs() < window)
