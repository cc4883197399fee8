"""Scores with a scale, a bound, biases and sinks: every path against torch's FlexAttention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

from stemma.nn import Scoring, attend, attend_explicitly
from stemma.nn.attend import attend_by_matmul, soft_capped
from stemma.nn.position_bias import Alibi
from stemma.nn.sight import Sight, causal_mask, visible

PATHS: dict[str, Callable[..., Tensor]] = {
    "fused": attend,
    "by_matmul": attend_by_matmul,
    "explicit": lambda *qkv, **rest: attend_explicitly(*qkv, **rest)[0],
}
ALL_PATHS = pytest.mark.parametrize("path", PATHS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def heads(n_heads: int, n_kv: int, queries: int, keys: int, seed: int = 0) -> list[Tensor]:
    shapes = [(2, n_heads, queries, 8), (2, n_kv, keys, 8), (2, n_kv, keys, 8)]
    return [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


@ALL_PATHS
def test_worked_by_hand(path: str) -> None:
    # Products 2 and 4; scaled by a half 1 and 2; bounded by 1: tanh 1 and tanh 2; biases 0 and 1;
    # a sink of 0.
    q = torch.tensor([[[[2.0]]]])
    k = torch.tensor([[[[1.0], [2.0]]]])
    v = torch.tensor([[[[10.0], [100.0]]]])
    first, second = math.exp(math.tanh(1)), math.exp(math.tanh(2) + 1)
    expected = (10 * first + 100 * second) / (1 + first + second)
    found = PATHS[path](
        q,
        k,
        v,
        Sight(bias=torch.tensor([[[[0.0, 1.0]]]])),
        scoring=Scoring(scale=0.5, softcap=1.0, sinks=torch.zeros(1)),
    )
    assert float(found) == pytest.approx(expected, rel=1e-6)


def by_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scoring: Scoring,
    bias: Tensor | None,
    window: int | None,
    causal: bool,
) -> Tensor:
    """torch's own, in its uncompiled form; sinks by the logarithm of the sum that it returns."""
    past = k.shape[2] - q.shape[2]

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if scoring.softcap is not None:
            s = scoring.softcap * torch.tanh(s / scoring.softcap)
        return s if bias is None else s + bias[0, h, i, j]

    def looks(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        here = i + past
        near = (here - j).abs() < (window or 10_000)
        return near & (j <= here) if causal else near

    mask = create_block_mask(looks, None, None, q.shape[2], k.shape[2], device="cpu")
    out, rest = flex_attention(
        q,
        k,
        v,
        score,
        mask,
        scale=scoring.scale,
        enable_gqa=True,
        return_aux=AuxRequest(lse=True),
    )
    if scoring.sinks is None:
        return out
    return out * torch.sigmoid(rest.lse - scoring.sinks.view(1, -1, 1)).unsqueeze(-1)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    n_kv, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    queries = draw(st.integers(1, 6))
    return {
        "shape": (n_kv * group, n_kv, queries, queries + draw(st.integers(0, 4))),
        "scale": draw(st.sampled_from([None, 1.0, 0.1])),
        "softcap": draw(st.sampled_from([None, 0.5, 5.0])),
        "sinks": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "window": draw(st.sampled_from([None, 1, 3])),
        "causal": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


@ALL_PATHS
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@given(case=cases())
def test_every_path_is_flex_attention(path: str, case: dict[str, Any]) -> None:
    n_heads, _, queries, keys = case["shape"]
    q, k, v = heads(*case["shape"], seed=case["seed"])
    sinks = normal(n_heads, seed=5) if case["sinks"] else None
    scoring = Scoring(case["scale"], case["softcap"], sinks)
    bias = normal(1, n_heads, queries, keys, seed=7) if case["bias"] else None
    causal, window = case["causal"], case["window"]
    places = torch.arange(keys)
    mask = visible(places[-queries:], places, causal=causal, window=window)[None, None]
    expected = by_flex(q, k, v, scoring=scoring, bias=bias, window=window, causal=causal)
    found = PATHS[path](
        q, k, v, Sight(bias=bias, causal=causal, mask=mask if window else None), scoring
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scoring", [Scoring(softcap=2.0), Scoring(scale=0.9), Scoring()])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_bfloat16_keeps_its_precision(scoring: Scoring, with_sinks: bool) -> None:
    q, k, v = heads(4, 2, 6, 6)
    scoring = scoring._replace(sinks=normal(4) if with_sinks else None)
    exact = attend(q, k, v, scoring=scoring)
    low = attend(*(x.bfloat16() for x in (q, k, v)), scoring=scoring)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=0.05, rtol=0.05)


@ALL_PATHS
def test_a_sink_takes_all_weight_or_none(path: str) -> None:
    q, k, v = heads(2, 2, 3, 3)
    plain = PATHS[path](q, k, v)
    for sink, expected in ((50.0, torch.zeros_like(plain)), (-50.0, plain)):
        found = PATHS[path](q, k, v, scoring=Scoring(sinks=torch.full((2,), sink)))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_weights_and_what_a_sink_left_are_one() -> None:
    q, k, v = heads(2, 1, 3, 3)
    _, weights = attend_explicitly(q, k, v, scoring=Scoring(sinks=torch.zeros(2)))
    sums = weights.sum(-1)
    assert bool((sums < 1).all())
    # The first position sees one key: e^s / (1 + e^s).
    score = (q[0, 0, 0] @ k[0, 0, 0]) / math.sqrt(8)
    assert float(sums[0, 0, 0]) == pytest.approx(float(score.sigmoid()), rel=1e-5)


@ALL_PATHS
def test_gradients_reach_sinks_and_biases(path: str) -> None:
    q, k, v = (x.double() for x in heads(2, 1, 3, 3))
    bias = normal(1, 2, 3, 3).double().requires_grad_()
    sinks = normal(2).double().requires_grad_()

    def out(bias: Tensor, sinks: Tensor) -> Tensor:
        return PATHS[path](q, k, v, Sight(bias=bias), Scoring(softcap=3.0, sinks=sinks))

    if path != "explicit":  # whose softmax is float32
        assert torch.autograd.gradcheck(out, (bias, sinks))
    out(bias, sinks).sum().backward()
    assert bias.grad is not None
    assert bias.grad.abs().max() > 0
    assert sinks.grad is not None
    assert sinks.grad.abs().min() > 0


@given(st.floats(-1e4, 1e4), st.floats(0.1, 100))
def test_a_soft_cap_bounds_and_keeps_order(score: float, cap: float) -> None:
    capped = soft_capped(torch.tensor([score, score + 1.0], dtype=torch.float64), cap)
    assert capped.abs().max() <= cap
    assert capped[1] >= capped[0]
    small = soft_capped(torch.tensor(cap / 1000, dtype=torch.float64), cap)
    assert float(small) == pytest.approx(cap / 1000, rel=1e-6)


def test_what_is_visible_by_hand() -> None:
    places = torch.arange(4)
    causal = visible(places, places)
    assert causal.equal(causal_mask(4, 4, torch.device("cpu")))
    assert visible(places, places, window=2).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]
    both = visible(places, places, causal=False, window=2)
    assert both.int().tolist()[1] == [1, 1, 1, 0]
    rows = visible(torch.tensor([[2], [0]]), places)
    assert rows.int().tolist() == [[[1, 1, 1, 0]], [[1, 0, 0, 0]]]


@ALL_PATHS
def test_alibi_is_a_mask_that_grows(path: str) -> None:
    """With a steep slope a position sees itself; with none, everything before it alike."""
    q, k, v = heads(1, 1, 4, 4)
    places = torch.arange(4)
    steep = Alibi(1)(places, places) * 1e6
    torch.testing.assert_close(PATHS[path](q, k, v, Sight(bias=steep[None])), v, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_queries", [2, 70, 600])
def test_weights_are_dropped_where_blocks_would_be_faster(n_queries: int) -> None:
    """A prompt in bfloat16 without gradients: blocks of queries know no dropout."""
    noise = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n_queries, 8, generator=noise).bfloat16() for _ in range(2))
    ones = torch.ones(1, 2, n_queries, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        whole = attend(q, k, ones)
        torch.manual_seed(1)
        dropped = attend(q, k, ones, scoring=Scoring(dropout=0.5))
        none_left = attend(q, k, ones, scoring=Scoring(dropout=1.0 - 1e-7))
    torch.testing.assert_close(whole, torch.ones_like(whole), atol=0.02, rtol=0)
    assert not dropped.allclose(whole, atol=0.2)
    assert float(dropped.float().mean()) == pytest.approx(1, abs=0.6 if n_queries == 2 else 0.1)
    assert float(none_left.float().abs().mean()) < 0.1


@pytest.mark.parametrize("d_value", [3, 8, 20])
def test_values_of_another_size_in_blocks(d_value: int) -> None:
    """As latent attention has them, for a prompt in bfloat16 without gradients."""
    noise = torch.Generator().manual_seed(4)
    q, k = (torch.randn(2, 4, 130, 8, generator=noise).bfloat16() for _ in range(2))
    v = torch.randn(2, 4, 130, d_value, generator=noise).bfloat16()
    with torch.no_grad():
        found = attend(q, k, v)
    expected, _ = attend_explicitly(q.float(), k.float(), v.float())
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
