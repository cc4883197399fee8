"""Multi-head latent attention: what is kept of a position is one small vector for all heads."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.attend import Scoring, attend, attend_explicitly
from stemma.nn.cache import LayerCache
from stemma.nn.norm import NormConfig, RMSNormConfig
from stemma.nn.position import apply_rotation
from stemma.nn.sight import CAUSAL, Sight

Latent = Float[Tensor, "batch 1 key d_latent"]
Turned = Float[Tensor, "batch 1 key d_rotary"]


Change = Callable[[Tensor], Tensor]


class LatentAttention(nn.Module):
    r"""Attention whose keys and values are made of a latent vector c of each position.

    .. math::
        c = \mathrm{norm}(W_{dkv}\, x), \qquad k^h = [W_{uk}^h c;\; R\, W_{kr} x], \qquad
        v^h = W_{uv}^h c

    Queries may come from a latent vector of their own. The rotated part of the key, one for all
    heads, is kept apart: a rotation between the two maps would stand in the way of joining them.

    Since :math:`q \cdot W_{uk} c = (W_{uk}^T q) \cdot c`, keys and values need not be made at all:
    in the absorbed form the heads of queries attend to the latents themselves, as if these were
    the one key and value that they share. That is less work for a few queries, and more for many;
    the explicit form is the readable one. A cache holds :math:`d_{latent} + d_{rotary}` numbers a
    position, where `MultiHeadAttention` has :math:`2\, n_{heads}\, d_{head}`.

    DeepSeek-AI 2024 (V2), arXiv:2405.04434, section 2.1; V3: arXiv:2412.19437.

    Args:
        d_model: features in and out.
        n_heads: heads.
        d_latent: features of c.
        d_head: features of a head's query and key that are not rotated.
        d_rotary: features of those that are; even.
        d_value: features of a head's value; ``d_head`` by default.
        d_query_latent: features of the queries' latent; none by default.
        norm: of the latents.
        dropout: probability of dropping an attention weight while training.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_latent: int,
        d_head: int,
        d_rotary: int,
        d_value: int | None = None,
        d_query_latent: int | None = None,
        norm: NormConfig,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.d_latent = d_latent
        self.d_head = d_head
        self.d_rotary = d_rotary
        self.d_value = d_value or d_head
        self.dropout = dropout
        d_query = n_heads * (d_head + d_rotary)
        self.q_down: nn.Module = nn.Identity()
        if d_query_latent is not None:
            down = nn.Linear(d_model, d_query_latent, bias=False)
            self.q_down = nn.Sequential(down, norm.build(d_query_latent))
        self.q_proj = nn.Linear(d_query_latent or d_model, d_query, bias=False)
        self.latent_proj = nn.Linear(d_model, d_latent, bias=False)
        self.latent_norm = norm.build(d_latent)
        self.rotary_proj = nn.Linear(d_model, d_rotary, bias=False)
        self.k_proj = nn.Linear(d_latent, n_heads * d_head, bias=False)
        self.v_proj = nn.Linear(d_latent, n_heads * self.d_value, bias=False)
        self.o_proj = nn.Linear(n_heads * self.d_value, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        cache: LayerCache | None = None,
        change_values: Change | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Attend: in the absorbed form where a cache is continued by one position, else explicitly.

        Args:
            x: the positions that ask; with a cache they follow those in it.
            sight: how they are turned, and what they see; causal by default.
            cache: what was seen before, of a layout with one head of `cache_size` features.
            change_values: impossible here, where no values are kept.

        Raises:
            ModelError: if values are to be changed.
        """
        refuse_change(change_values)
        q, q_turned = self.queries(x, sight)
        latent, k_turned = self.latents(x, sight)
        if cache is not None:
            latent, k_turned = self._remember(latent, k_turned, cache)
        if cache is not None and x.shape[1] == 1:
            return self.attend_absorbed(q, q_turned, latent, k_turned, sight=sight)
        return self.attend_explicitly(q, q_turned, latent, k_turned, sight=sight)

    def forward_with_weights(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        change_values: Change | None = None,
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch n_heads query key"]]:
        """Attend step by step; returns the attention weights too."""
        refuse_change(change_values)
        q = torch.cat(self.queries(x, sight), dim=-1)
        k, v = self.keys_and_values(*self.latents(x, sight))
        found, weights = attend_explicitly(q, k, v, sight, self._scoring)
        return self._merge(found), weights

    def queries(
        self, x: Float[Tensor, "batch query d_model"], sight: Sight
    ) -> tuple[
        Float[Tensor, "batch n_heads query d_head"], Float[Tensor, "batch n_heads query d_rotary"]
    ]:
        """The two parts of every head's queries, the second one rotated."""
        q = self.q_proj(self.q_down(x)).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        plain, turned = q.split([self.d_head, self.d_rotary], dim=-1)
        return plain, _turn(turned, sight)

    def latents(self, x: Float[Tensor, "batch key d_model"], sight: Sight) -> tuple[Latent, Turned]:
        """What is kept of every position: its latent, and the rotated part of its key."""
        latent = self.latent_norm(self.latent_proj(x)).unsqueeze(1)
        return latent, _turn(self.rotary_proj(x).unsqueeze(1), sight)

    def keys_and_values(self, latent: Latent, k_turned: Turned) -> tuple[Tensor, Tensor]:
        """Every head's keys and values: ``[batch, n_heads, key, features]``."""
        k, v = (
            part(latent.squeeze(1)).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.k_proj, self.v_proj)
        )
        return torch.cat([k, k_turned.expand(-1, self.n_heads, -1, -1)], dim=-1), v

    def attend_explicitly(
        self, q: Tensor, q_turned: Tensor, latent: Latent, k_turned: Turned, *, sight: Sight
    ) -> Float[Tensor, "batch query d_model"]:
        """Make every head's keys and values, and attend to them."""
        k, v = self.keys_and_values(latent, k_turned)
        q = torch.cat([q, q_turned], dim=-1)
        return self._merge(attend(q, k, v, sight, self._scoring))

    def attend_absorbed(
        self, q: Tensor, q_turned: Tensor, latent: Latent, k_turned: Turned, *, sight: Sight
    ) -> Float[Tensor, "batch query d_model"]:
        """Attend to the latents, with the maps of keys and values drawn to the queries' side."""
        up_k, up_v = (
            part.weight.view(self.n_heads, -1, self.d_latent) for part in (self.k_proj, self.v_proj)
        )
        found = attend(
            torch.cat([q @ up_k, q_turned], dim=-1),
            torch.cat([latent, k_turned], dim=-1),
            latent,
            sight,
            self._scoring,
        )
        return self._merge(found @ up_v.mT)

    @property
    def cache_size(self) -> int:
        """Features of the one head of keys, and of values, in a layout of caches for this layer.

        Latent and rotated key together are laid in the two halves, of which each is so large.
        """
        return halved(self.d_latent + self.d_rotary)

    def _remember(
        self, latent: Latent, k_turned: Turned, cache: LayerCache
    ) -> tuple[Latent, Turned]:
        both = torch.cat([latent, k_turned], dim=-1)
        odd = both.shape[-1] % 2
        halves = F.pad(both, (0, odd)).chunk(2, dim=-1)
        whole = torch.cat(cache.append(*halves), dim=-1)
        return whole[..., : self.d_latent], whole[..., self.d_latent :][..., : self.d_rotary]

    @property
    def _scoring(self) -> Scoring:
        scale = 1 / math.sqrt(self.d_head + self.d_rotary)
        return Scoring(scale, dropout=self.dropout if self.training else 0.0)

    def _merge(self, attended: Float[Tensor, "batch n_heads query d_value"]) -> Tensor:
        merged: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return merged


def refuse_change(change_values: Change | None) -> None:
    """There is nothing to change.

    Raises:
        ModelError: if something was to be.
    """
    if change_values is not None:
        raise ModelError(
            "the values of a latent attention cannot be mixed with others: none are kept",
            cure="Set value_stream = false, or leave attention.latent out.",
        )


def _turn(x: Tensor, sight: Sight) -> Tensor:
    return x if sight.rotation is None else apply_rotation(x, sight.rotation.to(x.dtype))


class LatentConfig(Config):
    """What makes of an `AttentionConfig` one that builds a `LatentAttention`."""

    d_latent: int = Field(ge=1, description="features that are kept of a position for all heads")
    d_rotary: int = Field(ge=2, multiple_of=2, description="rotated features of queries and keys")
    d_value: int | None = Field(default=None, ge=1, description="of a head; default: d_head")
    d_query_latent: int | None = Field(
        default=None, ge=1, description="features of the queries' latent; default: none"
    )
    norm: NormConfig = Field(default=RMSNormConfig(), description="of the latents")

    @property
    def cache_size(self) -> int:
        """See `LatentAttention.cache_size`."""
        return halved(self.d_latent + self.d_rotary)


def halved(size: int) -> int:
    """The larger half."""
    return -(-size // 2)
