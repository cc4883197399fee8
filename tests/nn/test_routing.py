"""How evenly experts are used: worked by hand, against `transformers`, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.nn import Routing
from stemma.nn.routing import within_capacity


def routing(logits: Tensor, n_active: int = 1) -> Routing:
    return Routing(logits, logits.topk(n_active, dim=-1).indices)


def random(seed: int, shape: tuple[int, int, int], n_active: int) -> Routing:
    generator = torch.Generator().manual_seed(seed)
    return routing(2 * torch.randn(shape, generator=generator), n_active)


def test_worked_by_hand() -> None:
    # Two experts: odds 3:1, 3:1, 1:3 in the first row, and 3:1 three times in the second.
    up, down = [math.log(3), 0.0], [0.0, math.log(3)]
    found = routing(torch.tensor([[up, up, down], [up, up, up]]))
    assert found.counts.tolist() == [5, 1]
    assert found.load.tolist() == pytest.approx([5 / 6, 1 / 6])
    assert found.entropy.item() == pytest.approx(math.log(6) - 5 / 6 * math.log(5))
    # Row 1: f = 2/3, 1/3 and P = 7/12, 5/12; row 2: f = 1, 0 and P = 3/4, 1/4.
    first, second = 2 * (2 / 3 * 7 / 12 + 1 / 3 * 5 / 12), 2 * 3 / 4
    assert found.balance_loss().tolist() == pytest.approx([first, second])
    # Both together: f = 5/6, 1/6 and P = 2/3, 1/3.
    whole = 2 * (5 / 6 * 2 / 3 + 1 / 6 * 1 / 3)
    assert found.balance_loss("batch").tolist() == pytest.approx([whole, whole])
    assert found.z_loss().tolist() == pytest.approx([math.log(4) ** 2] * 2)
    assert found.dropped.item() == 0


def test_even_is_one_and_everything_on_one_expert_is_n_experts() -> None:
    even = routing(torch.eye(4)[None] * 1e-4)
    assert even.balance_loss().item() == pytest.approx(1, abs=1e-4)
    assert even.entropy.item() == pytest.approx(math.log(4))
    lost = routing(torch.eye(4)[:1].expand(1, 9, 4) * 50)
    assert lost.balance_loss().item() == pytest.approx(4)
    assert lost.entropy.item() == 0
    assert lost.load.max().item() == 1


@given(
    seed=st.integers(0, 99),
    n_experts=st.integers(2, 6),
    n_active=st.integers(1, 2),
    rows=st.integers(1, 3),
)
def test_losses_are_those_of_transformers(
    seed: int, n_experts: int, n_active: int, rows: int
) -> None:
    """Theirs is of the whole batch, and counts a token once for each of its experts."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    from transformers.models.switch_transformers.modeling_switch_transformers import (
        router_z_loss_func,
    )

    found = random(seed, (rows, 5, n_experts), n_active)
    theirs = load_balancing_loss_func((found.logits.flatten(0, 1),), n_experts, n_active)
    ours = found.balance_loss("batch")[0]
    torch.testing.assert_close(n_active * ours, theirs)
    torch.testing.assert_close(found.z_loss().mean(), router_z_loss_func(found.logits))


@given(seed=st.integers(0, 99), rows=st.integers(1, 4))
def test_a_rows_loss_does_not_depend_on_the_other_rows(seed: int, rows: int) -> None:
    whole = random(seed, (rows, 6, 5), 2)
    each = [
        Routing(whole.logits[i : i + 1], whole.experts[i : i + 1]).balance_loss()
        for i in range(rows)
    ]
    torch.testing.assert_close(whole.balance_loss(), torch.cat(each))


@given(seed=st.integers(0, 99))
def test_choices_have_no_slope_and_the_crowded_expert_is_pushed_down(seed: int) -> None:
    logits = random(seed, (1, 8, 4), 1).logits.requires_grad_()
    found = routing(logits)
    (slope,) = torch.autograd.grad(found.balance_loss().sum(), logits)
    shares = found.load
    p = logits.detach().softmax(-1)
    expected = 4 / 8 * p * (shares - (p * shares).sum(-1, keepdim=True))
    torch.testing.assert_close(slope, expected)
    assert slope[..., shares.argmax()].max() >= 0


def test_capacity_by_hand() -> None:
    experts = torch.tensor([[[0, 1], [0, 2], [1, 0], [0, 1]], [[3, 0], [3, 0], [3, 0], [3, 1]]])
    kept = within_capacity(experts, 4, 2)
    # The third and fourth choice of expert 0, the third of 1; then the third and fourth of 3.
    assert (~kept).nonzero().tolist() == [
        [0, 2, 1],
        [0, 3, 0],
        [0, 3, 1],
        [1, 2, 0],
        [1, 2, 1],
        [1, 3, 0],
    ]


@given(seed=st.integers(0, 99), capacity=st.integers(1, 12))
def test_no_expert_takes_more_than_its_capacity(seed: int, capacity: int) -> None:
    experts = random(seed, (3, 7, 4), 2).experts
    kept = within_capacity(experts, 4, capacity)
    for row in range(3):
        chosen = torch.bincount(experts[row].flatten(), minlength=4)
        taken = torch.bincount(experts[row][kept[row]], minlength=4)
        assert taken.tolist() == chosen.clamp(max=capacity).tolist()
