"""Self-attention with any number of heads, and heads of keys and values shared by groups."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.attend import Scoring, attend, attend_explicitly
from stemma.nn.cache import LayerCache
from stemma.nn.norm import NormConfig
from stemma.nn.position import Rotation, apply_rotation
from stemma.nn.sight import CAUSAL, Sight


class MultiHeadAttention(nn.Module):
    """Every position gathers what it needs from the positions before it, in several heads at once.

    Queries, keys and values are linear maps of the input; each head attends by itself (`attend`);
    a last map mixes what the heads found. With ``n_kv_heads < n_heads``, groups of query heads
    share keys and values.

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

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        sight: Sight = CAUSAL,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Attend by the fused path.

        Args:
            x: the positions that ask; with a cache they follow those in it.
            sight: how they are turned, and what they see; causal by default.
            cache: what was seen before; the new keys and values are added to it.
        """
        q, k, v = self.project(x, rotation=sight.rotation, cache=cache)
        return self.merge(attend(q, k, v, **self._how(sight)))

    def forward_with_weights(
        self, x: Float[Tensor, "batch seq d_model"], *, sight: Sight = CAUSAL
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch n_heads query key"]]:
        """Attend by the explicit path; returns the attention weights too."""
        q, k, v = self.project(x, rotation=sight.rotation)
        attended, weights = attend_explicitly(q, k, v, **self._how(sight))
        return self.merge(attended), weights

    def _how(self, sight: Sight) -> dict[str, Any]:
        return {
            "mask": sight.mask,
            "bias": sight.bias,
            "causal": sight.causal,
            "scoring": Scoring(self.scale, self.softcap, self.sinks),
            "dropout": self.dropout if self.training else 0.0,
        }

    def project(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of ``x``, keys and values of everything seen: ``[batch, heads, seq, d_head]``."""
        q, k, v = (
            self._split_heads(projection(x))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None:
            q = self.q_norm(q)
        if self.k_norm is not None:
            k = self.k_norm(k)
        if rotation is not None:
            rotation = rotation.to(q.dtype)
            q, k = apply_rotation(q, rotation), apply_rotation(k, rotation)
        # CUDA's autocast gives float32 norms; the cache and the kernel want one precision.
        q, k = q.to(v.dtype), k.to(v.dtype)
        if cache is not None:
            k, v = cache.append(k, v)
        return q, k, v

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
    """Builds a `MultiHeadAttention`."""

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
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def head_size(self, d_model: int) -> int:
        """Features of a head in a model of ``d_model`` features."""
        return self.d_head or d_model // self.n_heads

    def scale_for(self, d_model: int) -> float:
        """What multiplies the scores in a model of ``d_model`` features."""
        return self.scale or Scoring().scale_for(self.head_size(d_model))

    def build(self, d_model: int) -> MultiHeadAttention:
        """The layer for ``d_model`` features."""
        d_head = self.head_size(d_model)
        return MultiHeadAttention(
            d_model,
            self.n_heads,
            n_kv_heads=self.n_kv_heads,
            d_head=self.d_head,
            bias=bool(self.bias),
            out_bias=self.bias is True,
            q_norm=self.qk_norm.build(d_head) if self.qk_norm else None,
            k_norm=self.qk_norm.build(d_head) if self.qk_norm else None,
            scale=self.scale,
            softcap=self.softcap,
            sinks=self.sinks,
            dropout=self.dropout,
        )
