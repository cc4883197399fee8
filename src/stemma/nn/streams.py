"""What flows past the layers beside the residual stream: the embeddings, and the first values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Streams(NamedTuple):
    """The two streams of one pass; None where a model has none.

    Attributes:
        embeddings: what the first layer read.
        values: of the first layer's attention.
    """

    embeddings: Float[Tensor, "batch seq d_model"] | None = None
    values: Float[Tensor, "batch n_kv_heads seq d_head"] | None = None


NO_STREAMS = Streams()
"""Nothing flows past."""


class StreamMix(nn.Module):
    r"""How much of each stream a layer takes in, by two learned numbers each.

    .. math::
        x' = \lambda_1 x + \lambda_2 x_0, \qquad v' = \mu_1 v + \mu_2 v_1

    for the layer's input x and the embeddings :math:`x_0`, beginning with 1 and 0, and for its
    values v and those of the first layer :math:`v_1`, beginning with 1/2 each. What the tokens were
    stays within reach of deep layers.

    Values: Zhou et al. 2024 (ResFormer), arXiv:2410.17897, section 3, with learned numbers.
    Embeddings: Jordan et al. 2024, https://github.com/KellerJordan/modded-nanogpt.

    Args:
        embeddings: whether the layer takes in the embeddings.
        values: whether its attention takes in the first layer's values.
    """

    def __init__(self, *, embeddings: bool, values: bool) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.tensor([1.0, 0.0])) if embeddings else None
        self.values = nn.Parameter(torch.tensor([0.5, 0.5])) if values else None

    def mix_input(
        self, x: Float[Tensor, "batch seq d_model"], streams: Streams
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the layer reads."""
        return _mixed(x, streams.embeddings, self.embeddings)

    def mix_values(
        self, v: Float[Tensor, "batch n_kv_heads seq d_head"], streams: Streams
    ) -> Float[Tensor, "batch n_kv_heads seq d_head"]:
        """What its attention takes as the values of new positions."""
        return _mixed(v, streams.values, self.values)


def _mixed(own: Tensor, stream: Tensor | None, shares: Float[Tensor, " 2"] | None) -> Tensor:
    if stream is None or shares is None:
        return own
    shares = shares.to(own.dtype)
    return shares[0] * own + shares[1] * stream
