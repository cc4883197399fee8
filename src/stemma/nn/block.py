"""One layer of a Transformer: attention, then feed-forward, each with its norm and its detour."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.errors import ModelError
from stemma.nn.attention import CrossAttention, Memory, MultiHeadAttention
from stemma.nn.cache import LayerCache
from stemma.nn.latent_attention import Change, LatentAttention
from stemma.nn.sight import CAUSAL, Sight
from stemma.nn.streams import NO_STREAMS, StreamMix, Streams

Placement = Literal["pre", "post", "sandwich", "none"]


class Block(nn.Module):
    r"""Attention and feed-forward with norms and residual connections around them.

    A sublayer f becomes, by ``placement``:

    | | |
    |---|---|
    | ``"pre"`` | :math:`x + f(\mathrm{norm}(x))`: GPT-2; stable at depth (Xiong et al. 2020, \
arXiv:2002.04745) |
    | ``"post"`` | :math:`\mathrm{norm}(x + f(x))`: Vaswani et al. 2017, arXiv:1706.03762 |
    | ``"sandwich"`` | :math:`x + \mathrm{norm}'(f(\mathrm{norm}(x)))`: Ding et al. 2021, \
arXiv:2105.13290; Gemma |
    | ``"none"`` | :math:`x + f(x)` |

    Without a residual connection there is no x to add. A decoder that reads an encoder's output has
    a third sublayer between the two.

    Args:
        attention: the attention layer.
        feedforward: the feed-forward layer.
        norm1: norm of the attention; an identity for ``"none"``.
        norm2: norm of the feed-forward.
        post_norm1: norm of the attention's output, for ``"sandwich"``.
        post_norm2: norm of the feed-forward's output.
        cross_attention: attention to an encoder's output.
        cross_norm: its norm.
        mix: how much it takes of the streams beside the residual stream; nothing by default.
        placement: where the norms stand.
        residual: whether a sublayer's input is added to its output.
        dropout: probability of dropping a feature of a sublayer's output while training.
    """

    def __init__(
        self,
        attention: MultiHeadAttention | LatentAttention,
        feedforward: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        *,
        post_norm1: nn.Module | None = None,
        post_norm2: nn.Module | None = None,
        cross_attention: CrossAttention | None = None,
        cross_norm: nn.Module | None = None,
        mix: StreamMix | None = None,
        placement: Placement = "pre",
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mix = mix
        self.norm1 = norm1
        self.attention = attention
        self.post_norm1 = post_norm1
        self.cross_norm = cross_norm
        self.cross_attention = cross_attention
        self.norm2 = norm2
        self.feedforward = feedforward
        self.post_norm2 = post_norm2
        self.dropout = dropout
        self.norms_input = placement in ("pre", "sandwich")
        self.residual = residual

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        cache: LayerCache | None = None,
        memory: Memory | None = None,
        streams: Streams = NO_STREAMS,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Apply the sublayers; the arguments are those of the attentions, and the streams."""
        x, change = self._take_in(x, streams)
        attended = self.attention(
            self._before(x, self.norm1), sight=sight, cache=cache, change_values=change
        )
        return self._rest(x, attended, memory)

    def forward_with_weights(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        memory: Memory | None = None,
        streams: Streams = NO_STREAMS,
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch n_heads query key"]]:
        """The same by explicit attention; returns the weights of the self-attention too."""
        x, change = self._take_in(x, streams)
        attended, weights = self.attention.forward_with_weights(
            self._before(x, self.norm1), sight=sight, change_values=change
        )
        return self._rest(x, attended, memory), weights

    def values(
        self, x: Float[Tensor, "batch seq d_model"], streams: Streams
    ) -> Float[Tensor, "batch n_kv_heads seq d_head"]:
        """The attention's own values, which the first layer gives to all others."""
        x, _ = self._take_in(x, streams)
        if isinstance(self.attention, LatentAttention):
            raise ModelError(
                "a latent attention keeps no values that other layers could take in",
                cure="Set value_stream = false, or leave attention.latent out.",
            )
        return self.attention.keys_and_values(self._before(x, self.norm1))[1]

    def _take_in(self, x: Tensor, streams: Streams) -> tuple[Tensor, Change | None]:
        """The input with its share of the embeddings, and what to do with the values."""
        if self.mix is None:
            return x, None
        changed = self.mix.values is not None
        change = partial(self.mix.mix_values, streams=streams) if changed else None
        return self.mix.mix_input(x, streams), change

    def _rest(self, x: Tensor, attended: Tensor, memory: Memory | None) -> Tensor:
        """What follows the self-attention."""
        x = self._after(x, attended, self.norm1, self.post_norm1)
        if self.cross_attention is not None and self.cross_norm is not None:
            found = self.cross_attention(self._before(x, self.cross_norm), memory)
            x = self._after(x, found, self.cross_norm, None)
        found = self.feedforward(self._before(x, self.norm2))
        return self._after(x, found, self.norm2, self.post_norm2)

    def _before(self, x: Tensor, norm: nn.Module) -> Tensor:
        if self.norms_input:
            x = norm(x)
        # Under autocast each linear map rounds its input: once here, not three times for q, k, v.
        kind = x.device.type
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x

    def _after(
        self, x: Tensor, found: Tensor, norm: nn.Module, post_norm: nn.Module | None
    ) -> Tensor:
        if post_norm is not None:
            found = post_norm(found)
        found = F.dropout(found, self.dropout, self.training)
        summed: Tensor = x + found if self.residual else found
        return summed if self.norms_input else norm(summed)
