"""Causal self-attention with any number of heads, and heads of keys and values shared by groups."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.cache import LayerCache
from stemma.nn.norm import NormConfig
from stemma.nn.position import Rotation, apply_rotation

Heads = Float[Tensor, "batch n_heads query d_head"]
Mask = Bool[Tensor, "#batch 1 query key"]


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """True where a query may look: at its own position and before; queries are the last ones."""
    everything = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return everything.tril(n_keys - n_queries)


def attend(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    *,
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch n_heads query d_head"]:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(q k^T / \sqrt{d_{head}}) v`, fused.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; without the matrix of weights in memory
    where torch has such a kernel (FlashAttention, arXiv:2205.14135). `attend_explicitly` is its
    readable twin.

    Args:
        q: queries, at the last of the keys' positions.
        k: keys; query head h reads key head ``h * n_kv_heads // n_heads``.
        v: values.
        mask: True where a query may look; causal by default.
        dropout: probability of dropping a weight.
    """
    if _matmuls_are_faster(q, k):
        return attend_by_matmul(q, k, v, mask=mask, dropout=dropout)
    n_queries, n_keys = q.shape[2], k.shape[2]
    causal = mask is None and n_queries == n_keys
    if mask is None and 1 < n_queries < n_keys:
        mask = causal_mask(n_queries, n_keys, q.device)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and n_queries > 1,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _matmuls_are_faster(q: Tensor, k: Tensor) -> bool:
    """Whether to take `attend_by_matmul`: bfloat16 on a CPU with a matrix that fits its cache.

    torch's fused kernel takes 3.7 times as long there for forward and backward at 128 keys, and 2.1
    times at 512 (torch 2.13, one Zen 4 core). A single query, as in decoding, is not worth it.
    """
    small = q.shape[2] > 1 and k.shape[2] <= 512
    return small and q.device.type == "cpu" and q.dtype == torch.bfloat16


def attend_by_matmul(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    *,
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch n_heads query d_head"]:
    """What `attend` computes, with the matrix of weights in memory and few passes over it.

    All heads of all rows are one batch of matrix products, the first of which scales and masks too.
    """
    batch, n_heads, n_queries, d_head = q.shape
    n_keys = k.shape[2]
    group = n_heads // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    if mask is None:
        mask = causal_mask(n_queries, n_keys, q.device)
    hidden = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -math.inf)
    if mask.ndim == 4:
        hidden = hidden.expand(batch, n_heads, n_queries, n_keys).flatten(0, 1)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    scores = torch.baddbmm(hidden, q, k.transpose(1, 2), alpha=1 / math.sqrt(d_head))
    weights = F.dropout(scores.softmax(-1), dropout)
    return torch.bmm(weights, v).view(batch, n_heads, n_queries, d_head)


def attend_explicitly(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    *,
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "batch n_heads query d_head"], Float[Tensor, "batch n_heads query key"]]:
    """What `attend` computes, step by step; returns the output and the attention weights.

    The weights are those before dropout: each row is a distribution over the keys.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is None:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
    weights = scores.masked_fill(~mask, -math.inf).float().softmax(-1).to(v.dtype)
    return F.dropout(weights, dropout) @ v, weights


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

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        rotation: Rotation | None = None,
        mask: Mask | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Attend by the fused path.

        Args:
            x: the positions that ask; with a cache they follow those in it.
            rotation: of these positions, for rotary position embeddings.
            mask: True where a query may look; causal by default.
            cache: what was seen before; the new keys and values are added to it.
        """
        q, k, v = self.project(x, rotation=rotation, cache=cache)
        dropout = self.dropout if self.training else 0.0
        return self.merge(attend(q, k, v, mask=mask, dropout=dropout))

    def forward_with_weights(
        self,
        x: Float[Tensor, "batch seq d_model"],
        *,
        rotation: Rotation | None = None,
        mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch n_heads query key"]]:
        """Attend by the explicit path; returns the attention weights too."""
        q, k, v = self.project(x, rotation=rotation)
        dropout = self.dropout if self.training else 0.0
        attended, weights = attend_explicitly(q, k, v, mask=mask, dropout=dropout)
        return self.merge(attended), weights

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
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def head_size(self, d_model: int) -> int:
        """Features of a head in a model of ``d_model`` features."""
        return self.d_head or d_model // self.n_heads

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
            dropout=self.dropout,
        )
