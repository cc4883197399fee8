"""Scaled dot-product attention: fused, by matrix products, and step by step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stemma.nn.sight import CAUSAL, Bias, Mask, Sight, causal_mask


class Scoring(NamedTuple):
    r"""How products of queries and keys become weights.

    Attributes:
        scale: multiplies the products; :math:`1 / \sqrt{d_{head}}` by default.
        softcap: c bounds the scores s by :math:`c \tanh(s / c)` (Gemma Team 2024,
            arXiv:2408.00118, section 2).
        sinks: ``[n_heads]``: a score that each head may spend its weight on instead of on a key
            (Xiao et al. 2023, arXiv:2309.17453; learned: Miller 2023, "Attention is off by one";
            gpt-oss).
        dropout: probability of dropping a weight.
    """

    scale: float | None = None
    softcap: float | None = None
    sinks: Float[Tensor, " n_heads"] | None = None
    dropout: float = 0.0

    def scale_for(self, d_head: int) -> float:
        """The factor for heads of ``d_head`` features."""
        return 1 / math.sqrt(d_head) if self.scale is None else self.scale


PLAIN = Scoring()
_BLOCK = 64


def attend(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    sight: Sight = CAUSAL,
    scoring: Scoring = PLAIN,
) -> Float[Tensor, "batch n_heads query d_head"]:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(q k^T / \sqrt{d_{head}}) v`, fused.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; without the matrix of weights in memory
    where torch has such a kernel (FlashAttention, arXiv:2205.14135). `attend_explicitly` is its
    readable twin.

    Args:
        q: queries; where ``sight`` is causal and has no mask, the last of the keys' positions.
        k: keys; query head h reads key head ``h * n_kv_heads // n_heads``.
        v: values.
        sight: mask and bias of the scaled products; the rotation is of no matter here.
        scoring: scale, soft-cap, sinks and dropout.
    """
    mask, bias = sight.mask, sight.bias
    plain = sight.causal and mask is None and bias is None
    if plain and scoring.softcap is None and not scoring.dropout and _blocks_are_faster(q):
        return attend_in_blocks(q, k, v, scoring)
    if scoring.softcap is not None or _matmuls_are_faster(q, k):
        return attend_by_matmul(q, k, v, sight, scoring)
    n_queries, n_keys = q.shape[2], k.shape[2]
    square = n_queries == n_keys
    causal = sight.causal and mask is None and n_queries > 1
    if causal and (bias is not None or scoring.sinks is not None or not square):
        mask, causal = causal_mask(n_queries, n_keys, q.device)[None, None], False
    added = mask if bias is None else _added(q, k, mask, bias)
    scale = scoring.scale_for(q.shape[-1])
    if scoring.sinks is not None:
        k, v, added = _with_sinks(q, k, v, added, scoring.sinks)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=added,
        dropout_p=scoring.dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _matmuls_are_faster(q: Tensor, k: Tensor) -> bool:
    """Whether to take `attend_by_matmul`: bfloat16 on a CPU with a matrix that fits its cache.

    torch's fused kernel takes 3.7 times as long there for forward and backward at 128 keys, and 2.1
    times at 512 (torch 2.13, one Zen 4 core). A single query, as in decoding, is not worth it.
    """
    small = q.shape[2] > 1 and k.shape[2] <= 512
    return small and q.device.type == "cpu" and q.dtype == torch.bfloat16


def _blocks_are_faster(q: Tensor) -> bool:
    """Whether to take `attend_in_blocks`: a prompt in bfloat16 on a CPU, without gradients.

    torch's fused kernel takes 1.7 times as long at 1,024 keys and 9 heads of 64.
    """
    long = q.shape[2] > 1 and q.device.type == "cpu" and q.dtype == torch.bfloat16
    return long and not torch.is_grad_enabled()


def attend_in_blocks(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_value"],
    scoring: Scoring = PLAIN,
) -> Float[Tensor, "batch n_heads query d_value"]:
    """What `attend` computes, causally, for some queries after the other.

    A block of queries meets the keys up to its own last one only, and its weights fit a cache. The
    queries that share keys are one matrix.
    """
    batch, n_heads, n_queries, d_head = q.shape
    group, n_past = n_heads // k.shape[1], k.shape[2] - n_queries
    keys, values = k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)
    later = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool, device=q.device).triu(1)
    scale, found = scoring.scale_for(d_head), q.new_empty(*q.shape[:3], v.shape[-1])
    for start in range(0, n_queries, _BLOCK):
        size = min(_BLOCK, n_queries - start)
        seen = n_past + start + size
        rows = q[:, :, start : start + size].reshape(-1, group * size, d_head)
        scores = torch.baddbmm(rows.new_empty(1), rows, keys[:, :, :seen], beta=0, alpha=scale)
        scores = scores.view(batch, n_heads, size, seen)
        scores[..., -size:].masked_fill_(later[:size, :size], -math.inf)
        if scoring.sinks is not None:
            sinks = scoring.sinks.to(q.dtype).view(1, n_heads, 1, 1).expand(batch, -1, size, 1)
            scores = torch.cat([scores, sinks], dim=-1)
        weights = scores.softmax(-1)[..., :seen].reshape(-1, group * size, seen)
        block = torch.bmm(weights, values[:, :seen]).view(batch, n_heads, size, -1)
        found[:, :, start : start + size] = block
    return found


def _added(q: Tensor, k: Tensor, mask: Mask | None, bias: Bias | None) -> Tensor:
    """What is added to the scores: the bias, and ``-inf`` where a query may not look."""
    if bias is None:
        shape = (1, 1, q.shape[2], k.shape[2]) if mask is None else mask.shape
        bias = torch.zeros(shape, dtype=q.dtype, device=q.device)
    bias = bias.to(q.dtype)
    return bias if mask is None else bias.masked_fill(~mask, -math.inf)


def _with_sinks(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, sinks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One key of zeros more, whose score is the sink and whose value is nothing."""
    if added is None or added.dtype == torch.bool:
        added = _added(q, k, added, None)
    batch, n_heads, n_queries = q.shape[:3]
    added = added.expand(batch, n_heads, n_queries, -1)
    column = sinks.to(q.dtype).view(1, n_heads, 1, 1).expand(batch, n_heads, n_queries, 1)
    return F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), torch.cat([added, column], dim=-1)


def attend_by_matmul(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    sight: Sight = CAUSAL,
    scoring: Scoring = PLAIN,
) -> Float[Tensor, "batch n_heads query d_head"]:
    """What `attend` computes, with the matrix of weights in memory and few passes over it.

    All heads of all rows are one batch of matrix products, the first of which scales and masks too.
    """
    batch, n_heads, n_queries, d_head = q.shape
    n_keys = k.shape[2]
    group = n_heads // k.shape[1]
    mask = sight.mask
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    if mask is None and sight.causal:
        mask = causal_mask(n_queries, n_keys, q.device)[None, None]
    added = _added(q, k, mask, sight.bias)
    if added.shape[:2] == (1, 1):
        added = added[0]
    else:
        added = added.expand(batch, n_heads, n_queries, n_keys).flatten(0, 1)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)
    scale = scoring.scale_for(d_head)
    if scoring.softcap is None:
        scores = torch.baddbmm(added, q, k, alpha=scale)
    else:
        scores = soft_capped(scale * torch.bmm(q, k), scoring.softcap) + added
    if scoring.sinks is not None:
        sinks = scoring.sinks.to(scores.dtype).repeat(batch).view(-1, 1, 1)
        scores = torch.cat([scores, sinks.expand(-1, n_queries, 1)], dim=-1)
    weights = F.dropout(scores.softmax(-1)[..., :n_keys], scoring.dropout)
    return torch.bmm(weights, v).view(batch, n_heads, n_queries, -1)


def attend_explicitly(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_kv_heads key d_head"],
    v: Float[Tensor, "batch n_kv_heads key d_head"],
    sight: Sight = CAUSAL,
    scoring: Scoring = PLAIN,
) -> tuple[Float[Tensor, "batch n_heads query d_head"], Float[Tensor, "batch n_heads query key"]]:
    """What `attend` computes, step by step; returns the output and the attention weights.

    The weights are those before dropout: each row is a distribution over the keys, or what a sink
    left of one.
    """
    n_heads, n_queries, n_keys = q.shape[1], q.shape[2], k.shape[2]
    group = n_heads // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) * scoring.scale_for(q.shape[-1])
    if scoring.softcap is not None:
        scores = soft_capped(scores, scoring.softcap)
    if sight.bias is not None:
        scores = scores + sight.bias
    mask = sight.mask
    if mask is None and sight.causal:
        mask = causal_mask(n_queries, n_keys, q.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    if scoring.sinks is not None:
        sinks = scoring.sinks.view(1, -1, 1, 1).expand(len(q), n_heads, n_queries, 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.float().softmax(-1)[..., :n_keys].to(v.dtype)
    return F.dropout(weights, scoring.dropout) @ v, weights


def soft_capped(scores: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    r"""Scores bounded by :math:`\pm c`: :math:`c \tanh(s / c)`, nearly s where s is small."""
    return cap * torch.tanh(scores / cap)
