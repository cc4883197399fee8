"""The activations: worked by hand, the two GELUs and how far they are apart, slopes."""

from __future__ import annotations

import math

import pytest
import torch

from stemma.nn import ACTIVATIONS
from stemma.nn.activation import gelu, gelu_formula, gelu_tanh, gelu_tanh_formula

GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("gelu", 1.0, 0.8413447460685429),  # Phi(1)
        ("gelu", -2.0, -2 * 0.022750131948179195),
        ("gelu_tanh", 1.0, 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715))),
        ("silu", 2.0, 2 / (1 + math.exp(-2))),
        ("relu", -3.0, 0.0),
        ("relu", 3.0, 3.0),
        ("relu2", 3.0, 9.0),
        ("relu2", -3.0, 0.0),
        ("sigmoid", math.log(3), 0.75),
        ("identity", -3.0, -3.0),
    ],
)
def test_worked_by_hand(name: str, x: float, y: float) -> None:
    found = ACTIVATIONS[name](torch.tensor(x, dtype=torch.float64))
    assert float(found) == pytest.approx(y, abs=1e-12)


def test_gelus_are_their_formulas() -> None:
    torch.testing.assert_close(gelu(GRID), gelu_formula(GRID))
    torch.testing.assert_close(gelu_tanh(GRID), gelu_tanh_formula(GRID))


def test_the_approximation_is_within_its_known_error() -> None:
    error = (gelu(GRID) - gelu_tanh(GRID)).abs().max()
    assert 4.6e-4 < error < 4.8e-4


def test_gelus_slope() -> None:
    x = GRID.clone().requires_grad_()
    (slope,) = torch.autograd.grad(gelu(x).sum(), x)
    cdf = 0.5 * (1 + torch.erf(GRID / math.sqrt(2)))
    density = torch.exp(-GRID.square() / 2) / math.sqrt(2 * math.pi)
    torch.testing.assert_close(slope, cdf + GRID * density)


def test_every_activation_but_sigmoid_is_zero_at_zero() -> None:
    for name, activation in ACTIVATIONS.items():
        assert activation(torch.zeros(3)).tolist() == [0.5 if name == "sigmoid" else 0] * 3
