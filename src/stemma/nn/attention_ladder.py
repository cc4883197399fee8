"""Attention in eight steps, from a plain average of what is similar to the fused kernel.

Each step changes one thing. Where the change is only one of form (loop, reshape, fusion), the
result is that of the step before; the tests hold them to it. `stemma.nn.attention` is the last step
as a part of a model. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

Queries, keys and values are ``[batch, seq, d]``, or ``[batch, n_heads, seq, d_head]`` for the last.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Sequence = Float[Tensor, "*batch seq d"]
Weights = Float[Tensor, "*batch seq seq"]


def dot_product_attention(q: Sequence, k: Sequence, v: Sequence) -> Sequence:
    r"""Step 1: an average of the values, weighted by similarity: :math:`\mathrm{softmax}(q k^T) v`.

    Luong et al. 2015, arXiv:1508.04025 (dot), with every position asking.
    """
    similarity = q @ k.transpose(-2, -1)
    return similarity.softmax(-1) @ v


def scaled_attention(q: Sequence, k: Sequence, v: Sequence) -> Sequence:
    r"""Step 2: scores divided by :math:`\sqrt{d}`.

    A product of d independent terms has variance d; undivided, a softmax over wide keys puts all
    weight on one of them and passes no gradient. It is step 1 with queries :math:`q / \sqrt{d}`.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v


def causal_weights(q: Sequence, k: Sequence) -> Weights:
    """The weights of step 3: rows sum to 1, and nothing lies above the diagonal."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    seq = q.shape[-2]
    future = torch.ones(seq, seq, dtype=torch.bool, device=q.device).triu(1)
    # Before the softmax: zeros put in afterwards would leave rows that do not sum to 1.
    return scores.masked_fill(future, -math.inf).softmax(-1)


def causal_attention(q: Sequence, k: Sequence, v: Sequence) -> Sequence:
    """Step 3: no position sees a later one, so that each can be asked to predict the next.

    The last position sees everything: its row is that of step 2.
    """
    return causal_weights(q, k) @ v


def dropout_attention(
    q: Sequence, k: Sequence, v: Sequence, *, dropout: float, generator: torch.Generator
) -> Sequence:
    """Step 4: while training, some weights are dropped and the others grow to make up for it.

    Equal to step 3 on average, and exactly with ``dropout=0``.

    Args:
        q: queries.
        k: keys.
        v: values.
        dropout: probability of dropping a weight, less than 1.
        generator: decides which.
    """
    weights = causal_weights(q, k)
    kept = torch.empty_like(weights).bernoulli_(1 - dropout, generator=generator)
    return weights * kept / (1 - dropout) @ v


def multi_head_by_loop(q: Sequence, k: Sequence, v: Sequence, *, n_heads: int) -> Sequence:
    """Step 5: several attentions side by side, each on its own slice of the features.

    One softmax can only average; several can look for different things at once. With one head it
    is step 3.
    """
    slices = (part.chunk(n_heads, dim=-1) for part in (q, k, v))
    return torch.cat([causal_attention(*head) for head in zip(*slices, strict=True)], dim=-1)


def split_heads(
    x: Float[Tensor, "batch seq d"], n_heads: int
) -> Float[Tensor, "batch n_heads seq d_head"]:
    """Cut the features into heads and make the heads a batch dimension."""
    batch, seq, d = x.shape
    return x.view(batch, seq, n_heads, d // n_heads).transpose(1, 2)


def merge_heads(
    x: Float[Tensor, "batch n_heads seq d_head"],
) -> Float[Tensor, "batch seq d"]:
    """Undo `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def multi_head_by_reshape(q: Sequence, k: Sequence, v: Sequence, *, n_heads: int) -> Sequence:
    """Step 6: the loop becomes a batch dimension: two matrix products for all heads; equal to 5."""
    q, k, v = (split_heads(part, n_heads) for part in (q, k, v))
    return merge_heads(causal_attention(q, k, v))


def grouped_query_attention(
    q: Sequence, k: Sequence, v: Sequence, *, n_heads: int, n_kv_heads: int
) -> Sequence:
    """Step 7: groups of query heads share one head of keys and values; equal to 6 with groups of 1.

    The cache of a model shrinks by ``n_heads / n_kv_heads``. Ainslie et al. 2023, arXiv:2305.13245.

    Args:
        q: queries of ``n_heads * d_head`` features.
        k: keys of ``n_kv_heads * d_head`` features.
        v: values of the same.
        n_heads: heads of queries.
        n_kv_heads: heads of keys and values; divides ``n_heads``.
    """
    group = n_heads // n_kv_heads
    # Each head repeated in place (0 0 1 1), not the row of heads repeated (0 1 0 1).
    k, v = (split_heads(part, n_kv_heads).repeat_interleave(group, dim=1) for part in (k, v))
    return merge_heads(causal_attention(split_heads(q, n_heads), k, v))


def fused_attention(q: Sequence, k: Sequence, v: Sequence, *, n_heads: int) -> Sequence:
    """Step 8: torch's fused kernel, which never holds the matrix of weights; equal to 6.

    Dao et al. 2022, arXiv:2205.14135.
    """
    q, k, v = (split_heads(part, n_heads) for part in (q, k, v))
    return merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))
