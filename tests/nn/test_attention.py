"""Attention: every path against a loop over queries, torch's module, causality, shared heads."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ModelError
from stemma.nn import (
    AttentionConfig,
    CacheLayout,
    KVCache,
    MultiHeadAttention,
    RMSNormConfig,
    Rotary,
    attend,
    attend_explicitly,
)
from stemma.nn.attend import Scoring, attend_by_matmul, attend_in_blocks
from stemma.nn.sight import Sight, causal_mask

PATHS: dict[str, Callable[..., Tensor]] = {
    "fused": attend,
    "by_matmul": attend_by_matmul,
    "explicit": lambda *qkv, **rest: attend_explicitly(*qkv, **rest)[0],
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def heads(
    batch: int, n_heads: int, n_kv: int, queries: int, keys: int, *, seed: int = 0
) -> list[Tensor]:
    shapes = [(batch, n_heads, queries, 8), (batch, n_kv, keys, 8), (batch, n_kv, keys, 8)]
    return [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


def by_loop(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """One number at a time, in Python's float64."""
    batch, n_heads, queries, d = q.shape
    keys, group = k.shape[2], n_heads // k.shape[1]
    out = torch.zeros(q.shape)
    for b in range(batch):
        for h in range(n_heads):
            for i in range(queries):
                seen = [
                    j
                    for j in range(keys)
                    if (j <= i + keys - queries if mask is None else bool(mask[b, 0, i, j]))
                ]
                scores = [
                    sum(
                        float(x) * float(y)
                        for x, y in zip(q[b, h, i], k[b, h // group, j], strict=True)
                    )
                    / math.sqrt(d)
                    for j in seen
                ]
                weights = [math.exp(score) for score in scores]
                for j, weight in zip(seen, weights, strict=True):
                    out[b, h, i] += weight / sum(weights) * v[b, h // group, j]
    return out


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("n_heads", "n_kv"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 4), (2, 5), (1, 1)])
def test_every_path_is_the_loop(
    path: str, n_heads: int, n_kv: int, queries: int, keys: int
) -> None:
    q, k, v = heads(2, n_heads, n_kv, queries, keys)
    torch.testing.assert_close(PATHS[path](q, k, v), by_loop(q, k, v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_a_mask_says_where_to_look(path: str) -> None:
    q, k, v = heads(2, 4, 2, 4, 4)
    documents = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    mask = (documents[:, :, None] == documents[:, None, :]).unsqueeze(1) & causal_mask(
        4, 4, torch.device("cpu")
    )
    found = PATHS[path](q, k, v, Sight(mask=mask))
    torch.testing.assert_close(found, by_loop(q, k, v, mask), atol=1e-5, rtol=1e-5)
    assert (found - by_loop(q, k, v)).abs().max() > 0.1


def test_weights_are_distributions_over_the_past() -> None:
    q, k, v = heads(2, 4, 2, 6, 6)
    out, weights = attend_explicitly(q, k, v)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6))
    assert weights.triu(1).abs().max() == 0
    torch.testing.assert_close(weights @ v.repeat_interleave(2, 1), out)


def test_training_in_bfloat16_on_a_cpu_takes_the_products_and_is_near_the_fused_kernel() -> None:
    q, k, v = (x.bfloat16().requires_grad_() for x in heads(2, 4, 2, 16, 16))
    up = normal(2, 4, 16, 8, seed=9).bfloat16()
    out = attend(q, k, v)
    assert out.equal(attend_by_matmul(q, k, v))
    found = torch.autograd.grad(out, (q, k, v), up)
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    exact = attend(*wide)
    expected = torch.autograd.grad(exact, wide, up.double())
    assert (out - exact).norm() < 0.01 * exact.norm()
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize(("queries", "keys"), [(515, 515), (130, 600), (2, 700)])
@pytest.mark.parametrize("scoring", [Scoring(), Scoring(scale=0.2, sinks=torch.ones(6))])
def test_bfloat16_prompts_in_blocks_are_exact_enough(
    queries: int, keys: int, scoring: Scoring
) -> None:
    q, k, v = (x.bfloat16() for x in heads(2, 6, 2, queries, keys))
    exact = attend(q.double(), k.double(), v.double(), scoring=scoring)
    with torch.no_grad():
        found = attend(q, k, v, scoring=scoring)
        assert found.equal(attend_in_blocks(q, k, v, scoring=scoring))
    assert (found - exact).norm() < 0.01 * exact.norm()
    assert (attend(q, k, v, scoring=scoring) - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("path", PATHS)
def test_dropout_drops_weights(path: str) -> None:
    q, k, v = heads(8, 4, 4, 16, 16)
    v = torch.ones_like(v)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = PATHS[path](q, k, v, scoring=Scoring(dropout=0.5))
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert float(found.std()) > 0.1
    torch.testing.assert_close(PATHS[path](q, k, v, scoring=Scoring(dropout=0.0)), v)


@given(st.integers(0, 2**31), st.integers(1, 7))
def test_a_later_key_changes_nothing_earlier(seed: int, at: int) -> None:
    q, k, v = heads(1, 2, 1, 8, 8, seed=seed % 1000)
    for path in PATHS.values():
        before = path(q, k, v)
        changed = [x.clone() for x in (q, k, v)]
        for x in changed:
            x[:, :, at:] += 5
        after = path(*changed)
        assert after[:, :, :at].equal(before[:, :, :at])
        assert not after[:, :, at:].equal(before[:, :, at:])


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs_multihead_attention(bias: bool) -> None:
    theirs = torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).requires_grad_(False)
    for i, parameter in enumerate(theirs.parameters()):
        parameter.copy_(normal(*parameter.shape, seed=i))
    ours = MultiHeadAttention(12, 3, bias=bias).requires_grad_(False)
    for i, projection in enumerate((ours.q_proj, ours.k_proj, ours.v_proj)):
        projection.weight.copy_(theirs.in_proj_weight.chunk(3)[i])
        if bias:
            projection.bias.copy_(theirs.in_proj_bias.chunk(3)[i])
    ours.o_proj.load_state_dict(theirs.out_proj.state_dict())
    x = normal(2, 7, 12, seed=9)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)
    out, ours_weights = ours.forward_with_weights(x)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours_weights, weights)


def test_shared_heads_are_full_heads_with_repeated_weights() -> None:
    shared = MultiHeadAttention(16, 4, n_kv_heads=2).requires_grad_(False)
    full = MultiHeadAttention(16, 4).requires_grad_(False)
    full.load_state_dict(
        {
            name: value.view(2, 4, *value.shape[1:]).repeat_interleave(2, 0).flatten(0, 1)
            if name.startswith(("k_proj", "v_proj"))
            else value
            for name, value in shared.state_dict().items()
        }
    )
    x = normal(2, 5, 16)
    torch.testing.assert_close(shared(x), full(x))


def test_queries_and_keys_are_normed_before_they_are_turned() -> None:
    config = AttentionConfig(n_heads=2, d_head=6, bias=False, qk_norm=RMSNormConfig(eps=1e-6))
    attention = config.build(8).requires_grad_(False)
    assert attention.q_norm is not attention.k_norm
    attention.q_norm.weight.copy_(normal(6).abs())
    rotation = Rotary(6)(torch.arange(3))
    q, k, v = attention.project(10 * normal(1, 3, 8), rotation=rotation)
    plain = attention.q_proj(10 * normal(1, 3, 8)).view(1, 3, 2, 6).transpose(1, 2)
    plain = plain / plain.square().mean(-1, keepdim=True).sqrt() * attention.q_norm.weight
    torch.testing.assert_close(q.norm(dim=-1), plain.norm(dim=-1))
    torch.testing.assert_close(q[:, :, 0], plain[:, :, 0])
    torch.testing.assert_close(k.norm(dim=-1), torch.full((1, 2, 3), math.sqrt(6)))
    assert v.shape == (1, 2, 3, 6)


def test_a_layer_continues_from_its_cache() -> None:
    attention = AttentionConfig(n_heads=4, n_kv_heads=2).build(16).requires_grad_(False)
    x = normal(2, 9, 16)
    cache = KVCache(CacheLayout(1, 2, 4), 2, 9)
    parts = []
    for chunk in x.split([4, 1, 3, 1], dim=1):
        parts.append(attention(chunk, cache=cache.layer(0)))
        cache.advance(chunk.shape[1])
    torch.testing.assert_close(torch.cat(parts, 1), attention(x))


def test_head_counts_that_do_not_fit() -> None:
    with pytest.raises(
        ModelError, match="d_model = 10 is not divisible by n_heads = 4: choose n_heads = 5"
    ):
        MultiHeadAttention(10, 4)
    with pytest.raises(
        ModelError, match=r"n_heads = 6 is not divisible by n_kv_heads = 4.*\[1, 2, 3, 6\]"
    ):
        MultiHeadAttention(12, 6, n_kv_heads=4)
    assert MultiHeadAttention(10, 4, d_head=8).q_proj.out_features == 32


def test_dropout_is_off_when_evaluating() -> None:
    attention = AttentionConfig(n_heads=2, dropout=0.9).build(8)
    x = normal(1, 6, 8)
    attention.eval()
    assert attention(x).equal(attention(x))
    with torch.random.fork_rng():
        attention.train()
        assert not attention(x).equal(attention(x))
