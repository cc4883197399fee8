"""Attention with any number of heads: among positions, and from a decoder to an encoder."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.attend import Scoring, attend, attend_explicitly
from stemma.nn.cache import LayerCache
from stemma.nn.latent_attention import Change, LatentAttention, LatentConfig
from stemma.nn.norm import NormConfig
from stemma.nn.position import Rotation, apply_rotation
from stemma.nn.sight import CAUSAL, Sight


class AttentionMaps(nn.Module):
    """The linear maps of an attention with several heads, and how its heads attend.

    Queries, keys and values are linear maps; each head attends by itself (`attend`); a last map
    mixes what the heads found. With ``n_kv_heads < n_heads``, groups of query heads share keys and
    values.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2; shared heads: Shazeer 2019,
    arXiv:1911.02150 and Ainslie et al. 2023, arXiv:2305.13245; normalised queries and keys: Henry
    et al. 2020, arXiv:2010.04245.

    Args:
        d_model: features in and out.
        n_heads: heads of queries.
        n_kv_heads: heads of keys and values; ``n_heads`` by default.
        d_head: features of a head; ``d_model / n_heads`` by default.
        bias: whether the maps of queries, keys and values have biases.
        out_bias: whether the last map has one; as ``bias`` by default.
        q_norm: norm of each query over d_head, before it is rotated.
        k_norm: norm of each key.
        scale: multiplies the products of queries and keys; ``1 / sqrt(d_head)`` by default.
        softcap: bound of the scores; see `Scoring`.
        sinks: whether each head learns a score that weight may go to instead of to a key.
        dropout: probability of dropping an attention weight while training.

    Raises:
        ModelError: if ``n_heads`` does not divide ``d_model``, or ``n_kv_heads`` not ``n_heads``.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if problem := head_problem(d_model, n_heads, n_kv_heads, d_head):
            raise ModelError(problem)
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads or n_heads
        self.d_head = d_head or d_model // n_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(d_model, self.n_heads * self.d_head, bias=bias)
        self.k_proj = nn.Linear(d_model, self.n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, self.n_kv_heads * self.d_head, bias=bias)
        out_bias = bias if out_bias is None else out_bias
        self.o_proj = nn.Linear(self.n_heads * self.d_head, d_model, bias=out_bias)
        self.q_norm = q_norm
        self.k_norm = k_norm
        self.scale = scale
        self.softcap = softcap
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None

    @property
    def _scoring(self) -> Scoring:
        dropout = self.dropout if self.training else 0.0
        return Scoring(self.scale, self.softcap, self.sinks, dropout)

    def queries(
        self, x: Float[Tensor, "batch query d_model"]
    ) -> Float[Tensor, "batch n_heads query d_head"]:
        """The queries of positions that ask."""
        q = self._split_heads(self.q_proj(x))
        return q if self.q_norm is None else self.q_norm(q)

    def keys_and_values(self, x: Float[Tensor, "batch key d_model"]) -> tuple[Tensor, Tensor]:
        """Keys and values of positions that are asked: ``[batch, n_kv_heads, key, d_head]``."""
        k, v = self._split_heads(self.k_proj(x)), self._split_heads(self.v_proj(x))
        return (k if self.k_norm is None else self.k_norm(k)), v

    def _split_heads(
        self, x: Float[Tensor, "batch seq features"]
    ) -> Float[Tensor, "batch heads seq d_head"]:
        """One copy here, so that nothing after it walks through memory in strides."""
        heads = x.view(*x.shape[:2], -1, self.d_head)
        return heads.transpose(1, 2).contiguous()

    def merge(
        self, attended: Float[Tensor, "batch n_heads seq d_head"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """Lay the heads side by side and mix them."""
        merged: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return merged


class MultiHeadAttention(AttentionMaps):
    """Every position gathers what it needs from the positions it sees, in several heads at once.

    Args and errors are those of `AttentionMaps`.
    """

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        cache: LayerCache | None = None,
        change_values: Change | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Attend by the fused path.

        Args:
            x: the positions that ask; with a cache they follow those in it.
            sight: how they are turned, and what they see; causal by default.
            cache: what was seen before; the new keys and values are added to it.
            change_values: new values -> those that are taken in their place.
        """
        q, k, v = self.project(x, rotation=sight.rotation, cache=cache, change_values=change_values)
        return self.merge(attend(q, k, v, sight, self._scoring))

    def forward_with_weights(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        change_values: Change | None = None,
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch n_heads query key"]]:
        """Attend by the explicit path; returns the attention weights too."""
        q, k, v = self.project(x, rotation=sight.rotation, change_values=change_values)
        attended, weights = attend_explicitly(q, k, v, sight, self._scoring)
        return self.merge(attended), weights

    def project(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        change_values: Change | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of ``x``, keys and values of everything seen: ``[batch, heads, seq, d_head]``."""
        q, (k, v) = self.queries(x), self.keys_and_values(x)
        if change_values is not None:
            v = change_values(v)
        if rotation is not None:
            rotation = rotation.to(q.dtype)
            q, k = apply_rotation(q, rotation), apply_rotation(k, rotation)
        # CUDA's autocast gives float32 norms; the cache and the kernel want one precision.
        q, k = q.to(v.dtype), k.to(v.dtype)
        if cache is not None:
            k, v = cache.append(k, v)
        return q, k, v


class Memory(NamedTuple):
    """What one layer of a decoder sees of an encoder's output, computed once for all its steps.

    Attributes:
        keys: of the source's positions.
        values: likewise.
        mask: False at padding; None if there is none.
    """

    keys: Float[Tensor, "batch n_kv_heads source d_head"]
    values: Float[Tensor, "batch n_kv_heads source d_head"]
    mask: Bool[Tensor, "batch 1 1 source"] | None = None

    def select(self, rows: Int[Tensor, " n"]) -> Memory:
        """Some rows, in that order; one may come several times, as in beam search."""
        mask = None if self.mask is None else self.mask[rows]
        return Memory(self.keys[rows], self.values[rows], mask)

    def expand(self, n: int) -> Memory:
        """The only row ``n`` times, without memory of its own."""
        mask = None if self.mask is None else self.mask.expand(n, -1, -1, -1)
        keys, values = (part.expand(n, -1, -1, -1) for part in (self.keys, self.values))
        return Memory(keys, values, mask)


class CrossAttention(AttentionMaps):
    """Every position of a decoder gathers what it needs from an encoder's output.

    Queries come from the decoder, keys and values from the encoder; no position is hidden but
    padding, and none is rotated. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.

    Args and errors are those of `AttentionMaps`.
    """

    def read(
        self,
        states: Float[Tensor, "batch source d_model"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Memory:
        """Take in an encoder's output.

        Args:
            states: the output.
            mask: False at padding.
        """
        k, v = self.keys_and_values(states)
        return Memory(k.to(v.dtype), v, None if mask is None else mask[:, None, None])

    def forward(
        self, x: Float[Tensor, "batch target d_model"], memory: Memory
    ) -> Float[Tensor, "batch target d_model"]:
        """Attend by the fused path."""
        q = self.queries(x).to(memory.values.dtype)
        attended = attend(q, memory.keys, memory.values, _sight_of(memory), self._scoring)
        return self.merge(attended)

    def forward_with_weights(
        self, x: Float[Tensor, "batch target d_model"], memory: Memory
    ) -> tuple[Float[Tensor, "batch target d_model"], Float[Tensor, "batch n_heads target source"]]:
        """Attend by the explicit path; returns the attention weights too."""
        q, sight = self.queries(x), _sight_of(memory)
        attended, weights = attend_explicitly(q, memory.keys, memory.values, sight, self._scoring)
        return self.merge(attended), weights


def _sight_of(memory: Memory) -> Sight:
    return Sight(mask=memory.mask, causal=False)


def head_problem(
    d_model: int, n_heads: int, n_kv_heads: int | None, d_head: int | None
) -> str | None:
    """What is wrong with these numbers of heads, and the cure; None if nothing is."""
    if d_head is None and d_model % n_heads:
        fitting = [n for n in range(1, d_model + 1) if d_model % n == 0]
        nearest = min(fitting, key=lambda n: abs(n - n_heads))
        return (
            f"d_model = {d_model} is not divisible by n_heads = {n_heads}: choose n_heads = "
            f"{nearest}, or give d_head"
        )
    if n_kv_heads is not None and n_heads % n_kv_heads:
        fitting = [n for n in range(1, n_heads + 1) if n_heads % n == 0]
        return (
            f"n_heads = {n_heads} is not divisible by n_kv_heads = {n_kv_heads}: choose "
            f"n_kv_heads from {fitting}"
        )
    return None


class AttentionConfig(Config):
    """Builds a `MultiHeadAttention`, or with ``latent`` a `LatentAttention`."""

    kind: Literal["multi_head"] = "multi_head"
    n_heads: int = Field(ge=1)
    n_kv_heads: int | None = Field(default=None, ge=1, description="default: n_heads")
    d_head: int | None = Field(default=None, ge=1, description="default: d_model / n_heads")
    bias: bool | Literal["qkv"] = Field(
        default=True, description="of all four maps, or of those of queries, keys and values"
    )
    qk_norm: NormConfig | None = Field(
        default=None, description="norm of queries and keys over d_head"
    )
    scale: float | None = Field(
        default=None, gt=0, description="of the scores; default: 1 / sqrt(d_head)"
    )
    softcap: float | None = Field(default=None, gt=0, description="bound of the scores")
    sinks: bool = Field(default=False, description="whether weight may go to no key at all")
    latent: LatentConfig | None = Field(
        default=None, description="keys and values are made of a small vector for all heads"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _latents_have_no_other_options(self) -> Self:
        if self.latent is None:
            return self
        without = {"dropout", "latent", "n_heads", "d_head", "bias"}
        for name, field in type(self).model_fields.items():
            if name not in without and getattr(self, name) != field.default:
                raise ValueError(f"{name} is no option of an attention with latents: leave it out")
        if self.bias or self.d_head is None:
            raise ValueError("an attention with latents wants bias = false and a d_head")
        return self

    def head_size(self, d_model: int) -> int:
        """Features of a head in a model of ``d_model`` features."""
        return self.d_head or d_model // self.n_heads

    def query_size(self, d_model: int) -> int:
        """Features that a query and a key of a head are multiplied by."""
        return self.head_size(d_model) + (self.latent.d_rotary if self.latent else 0)

    def value_size(self, d_model: int) -> int:
        """Features of a head's value."""
        return (self.latent and self.latent.d_value) or self.head_size(d_model)

    def rotary_size(self, d_model: int) -> int:
        """How many of the query's features are rotated."""
        return self.latent.d_rotary if self.latent else self.head_size(d_model)

    def cache_shape(self, d_model: int) -> tuple[int, int]:
        """Heads of keys (and of values) that a cache keeps of a position, and their features."""
        if self.latent:
            return 1, self.latent.cache_size
        return self.n_kv_heads or self.n_heads, self.head_size(d_model)

    def scale_for(self, d_model: int) -> float:
        """What multiplies the scores in a model of ``d_model`` features."""
        return self.scale or Scoring().scale_for(self.query_size(d_model))

    def build(self, d_model: int) -> MultiHeadAttention | LatentAttention:
        """The layer for ``d_model`` features."""
        if self.latent:
            return LatentAttention(
                d_model,
                self.n_heads,
                d_latent=self.latent.d_latent,
                d_head=self.head_size(d_model),
                d_rotary=self.latent.d_rotary,
                d_value=self.latent.d_value,
                d_query_latent=self.latent.d_query_latent,
                norm=self.latent.norm,
                dropout=self.dropout,
            )
        return MultiHeadAttention(d_model, **self._values(d_model))

    def build_cross(self, d_model: int) -> CrossAttention:
        """The layer between a decoder and an encoder of ``d_model`` features."""
        return CrossAttention(d_model, **self._values(d_model))

    def _values(self, d_model: int) -> dict[str, Any]:
        d_head = self.head_size(d_model)
        return {
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "d_head": self.d_head,
            "bias": bool(self.bias),
            "out_bias": self.bias is True,
            "q_norm": self.qk_norm.build(d_head) if self.qk_norm else None,
            "k_norm": self.qk_norm.build(d_head) if self.qk_norm else None,
            "scale": self.scale,
            "softcap": self.softcap,
            "sinks": self.sinks,
            "dropout": self.dropout,
        }
