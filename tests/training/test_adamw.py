"""AdamW: a worked step, torch's own optimizer, the fused kernel against the readable update."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma.training.optimizers import AdamW


def parameters(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 5), (5,), (3, 4, 2), ()]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def loss(own: list[nn.Parameter], step: int) -> Tensor:
    """Random slopes over several orders of magnitude, and a bowl.

    Nothing chaotic: that would magnify the rounding in which two right updates differ.
    """
    generator = torch.Generator().manual_seed(1000 + step)
    terms = [
        (p * torch.randn(p.shape, generator=generator) * 10.0**-i).sum() + 0.1 * (p**2).sum()
        for i, p in enumerate(own)
    ]
    return torch.stack(terms).sum()


def train(optimizer: torch.optim.Optimizer, own: list[nn.Parameter], steps: int = 100) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        loss(own, step).backward()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 200)
        optimizer.step()


def test_one_step_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([2.0]))
    parameter.grad = torch.tensor([3.0])
    AdamW([parameter], lr=0.1, betas=(0.9, 0.99), eps=1.0, weight_decay=0.5, fused=False).step()
    # Both biases corrected, the moments are g and g^2; decay leaves 2 * (1 - 0.1 * 0.5) = 1.9.
    assert parameter.item() == pytest.approx(1.9 - 0.1 * 3 / (3 + 1))


@pytest.mark.parametrize("fused", [False, True])
@settings(max_examples=8)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.0, 0.99), (0.5, 0.0)]),
    st.sampled_from([1e-8, 1e-3]),
    st.sampled_from([0.0, 0.1]),
)
def test_a_hundred_steps_equal_torchs_adamw(
    fused: bool, seed: int, betas: tuple[float, float], eps: float, weight_decay: float
) -> None:
    ours, theirs = parameters(seed), parameters(seed)
    options = {"lr": 0.01, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    train(AdamW(ours, **options, fused=fused), ours)
    train(torch.optim.AdamW(theirs, **options, foreach=False, fused=False), theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-6)


def test_each_group_has_its_own_settings() -> None:
    decayed, kept = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [decayed], "weight_decay": 0.5}, {"params": [kept], "lr": 0.2}]
    optimizer = AdamW(groups, lr=0.1)
    for parameter in (decayed, kept):
        parameter.grad = torch.zeros(2)
    optimizer.step()
    assert decayed.tolist() == pytest.approx([0.95, 0.95])
    assert kept.tolist() == [1, 1]


@pytest.mark.parametrize("fused", [False, True])
def test_a_parameter_without_gradient_stays_and_its_clock_too(fused: bool) -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdamW([first, second], lr=0.1, weight_decay=0.1, fused=fused)
    first.grad = torch.ones(2)
    optimizer.step()
    assert second.tolist() == [1, 1]
    assert optimizer.state[first]["step"].item() == 1
    assert optimizer.state[second]["step"].item() == 0


def test_the_decay_is_decoupled() -> None:
    """A parameter with huge gradients decays as much as one with tiny ones."""
    large, small = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    for parameter, size in ((large, 1e3), (small, 1e-3)):
        plain = nn.Parameter(torch.ones(1))
        for one, decay in ((parameter, 0.5), (plain, 0.0)):
            one.grad = torch.full((1,), size)
            AdamW([one], lr=0.1, eps=1e-12, weight_decay=decay).step()
        assert math.isclose(plain.item() - parameter.item(), 0.05, rel_tol=1e-5)


def test_a_closure_is_called_with_gradients_and_its_value_given() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = AdamW([parameter], lr=0.1)

    def closure() -> Tensor:
        value = (parameter**2).sum()
        value.backward()
        return value

    assert optimizer.step(closure).item() == 1
    assert parameter.item() < 1
