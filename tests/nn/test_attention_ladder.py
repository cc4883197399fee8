"""The ladder: what each step adds, and that a change of form changes no number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stemma.nn import attend
from stemma.nn import attention_ladder as ladder


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return normal(2, 7, 12), normal(2, 7, 12, seed=1), normal(2, 7, 12, seed=2)


def test_step_1_worked_by_hand() -> None:
    # One query, two keys with scores ln 3 and 0: weights 3/4 and 1/4.
    q = torch.tensor([[[math.log(3.0), 0.0]]])
    k = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    v = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]])
    torch.testing.assert_close(ladder.dot_product_attention(q, k, v), torch.tensor([[[3.0, 2.0]]]))


def test_step_2_is_step_1_with_smaller_queries(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    scaled = ladder.scaled_attention(q, k, v)
    torch.testing.assert_close(scaled, ladder.dot_product_attention(q / math.sqrt(12), k, v))
    assert (scaled - ladder.dot_product_attention(q, k, v)).abs().max() > 0.1


def test_scaling_keeps_the_entropy_at_any_width() -> None:
    # Normalised entropy of 16 weights: raw it falls from 0.64 to 0.03, scaled it stays at 0.85.
    def entropy(d: int, scale: float) -> float:
        q, k = normal(64, 16, d), normal(64, 16, d, seed=1)
        log_weights = (q @ k.mT * scale).log_softmax(-1)
        return float(-(log_weights.exp() * log_weights).sum(-1).mean() / math.log(16))

    assert entropy(4, 1) == pytest.approx(0.64, abs=0.04)
    assert entropy(1024, 1) == pytest.approx(0.03, abs=0.02)
    for d in (4, 64, 1024):
        assert entropy(d, 1 / math.sqrt(d)) == pytest.approx(0.85, abs=0.03)


def test_step_3_hides_the_future_and_is_step_2_at_the_end(
    qkv: tuple[Tensor, Tensor, Tensor],
) -> None:
    causal, open_ = ladder.causal_attention(*qkv), ladder.scaled_attention(*qkv)
    torch.testing.assert_close(causal[:, -1], open_[:, -1])
    torch.testing.assert_close(causal[:, 0], qkv[2][:, 0])
    assert (causal[:, :-1] - open_[:, :-1]).abs().max() > 0.1
    changed = [x.clone() for x in qkv]
    for x in changed:
        x[:, 4:] += 3
    assert ladder.causal_attention(*changed)[:, :4].equal(causal[:, :4])
    weights = ladder.causal_weights(*qkv[:2])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))


def test_step_4_is_step_3_without_dropout_and_on_average(
    qkv: tuple[Tensor, Tensor, Tensor],
) -> None:
    generator = torch.Generator().manual_seed(0)
    none = ladder.dropout_attention(*qkv, dropout=0.0, generator=generator)
    expected = ladder.causal_attention(*qkv)
    assert none.equal(expected)
    many = torch.stack(
        [ladder.dropout_attention(*qkv, dropout=0.3, generator=generator) for _ in range(2000)]
    )
    assert (many[0] - expected).abs().max() > 0.1
    torch.testing.assert_close(many.mean(0), expected, atol=0.12, rtol=0)


def test_step_5_with_one_head_is_step_3(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    expected = ladder.causal_attention(*qkv)
    torch.testing.assert_close(ladder.multi_head_by_loop(*qkv, n_heads=1), expected)
    assert (ladder.multi_head_by_loop(*qkv, n_heads=3) - expected).abs().max() > 0.1


@pytest.mark.parametrize("n_heads", [1, 2, 3, 12])
def test_steps_5_to_8_and_the_part_are_one_function(
    qkv: tuple[Tensor, Tensor, Tensor], n_heads: int
) -> None:
    by_loop = ladder.multi_head_by_loop(*qkv, n_heads=n_heads)
    for step in (ladder.multi_head_by_reshape, ladder.fused_attention):
        torch.testing.assert_close(step(*qkv, n_heads=n_heads), by_loop)
    grouped = ladder.grouped_query_attention(*qkv, n_heads=n_heads, n_kv_heads=n_heads)
    torch.testing.assert_close(grouped, by_loop)
    q, k, v = (ladder.split_heads(x, n_heads) for x in qkv)
    torch.testing.assert_close(ladder.merge_heads(attend(q, k, v)), by_loop)


def test_step_7_shares_heads_in_groups(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv[0], qkv[1][..., :6], qkv[2][..., :6]
    shared = ladder.grouped_query_attention(q, k, v, n_heads=4, n_kv_heads=2)
    wide = [torch.cat([x[..., :3]] * 2 + [x[..., 3:]] * 2, dim=-1) for x in (k, v)]
    torch.testing.assert_close(shared, ladder.multi_head_by_loop(q, *wide, n_heads=4))


def test_splitting_and_merging_heads_undo_each_other() -> None:
    x = normal(2, 5, 12)
    assert ladder.merge_heads(ladder.split_heads(x, 3)).equal(x)
    assert ladder.split_heads(x, 3)[1, 2, 4].equal(x[1, 4, 8:])
