"""Feed-forward layers: worked by hand, against their formula, sizes."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from stemma.nn import MLP, ActivationName, GatedMLP, GatedMLPConfig, MLPConfig
from stemma.nn.activation import relu, silu


def test_an_mlp_worked_by_hand() -> None:
    layer = MLP(1, 2, activation=relu).requires_grad_(False)
    layer.up_proj.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    layer.up_proj.bias.copy_(torch.tensor([1.0, 1.0]))
    layer.down_proj.weight.copy_(torch.tensor([[2.0, 3.0]]))
    layer.down_proj.bias.fill_(0.5)
    # 2: relu(3) * 2 + relu(-1) * 3 + 0.5; -2: relu(-1) * 2 + relu(3) * 3 + 0.5.
    assert layer(torch.tensor([[2.0], [-2.0]])).flatten().tolist() == [6.5, 9.5]


def test_a_gated_mlp_worked_by_hand() -> None:
    layer = GatedMLP(1, 2, activation=relu).requires_grad_(False)
    layer.gate_proj.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    layer.up_proj.weight.copy_(torch.tensor([[10.0], [10.0]]))
    layer.down_proj.weight.copy_(torch.tensor([[1.0, 2.0]]))
    # 3: gates 3 and 0, values 30 and 30.
    assert layer(torch.tensor([[3.0]])).item() == 90
    assert layer(torch.tensor([[-3.0]])).item() == 2 * 3 * -30


# W_g = 1, W_1 = 10, W_2 = 1: at x the layer is a(x) * 10 x.
@pytest.mark.parametrize(
    ("activation", "x", "y"),
    [
        ("sigmoid", math.log(3), 7.5 * math.log(3)),
        ("identity", -3.0, 90.0),
        ("relu", -3.0, 0.0),
        ("relu", 3.0, 90.0),
        ("gelu", 1.0, 8.413447460685429),
        ("silu", math.log(3), 7.5 * math.log(3) ** 2),
    ],
)
def test_the_gated_variants_worked_by_hand(activation: str, x: float, y: float) -> None:
    layer = GatedMLPConfig(d_ff=1, activation=activation).build(1).double().requires_grad_(False)
    layer.gate_proj.weight.fill_(1)
    layer.up_proj.weight.fill_(10)
    layer.down_proj.weight.fill_(1)
    assert layer(torch.tensor([x], dtype=torch.float64)).item() == pytest.approx(y, abs=1e-12)


@given(d_model=st.integers(1, 6), d_ff=st.integers(1, 9), seed=st.integers(0, 99))
def test_glu_is_that_of_torch(d_model: int, d_ff: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = GatedMLPConfig(d_ff=d_ff, activation="sigmoid", bias=True).build(d_model)
    x = torch.randn(3, d_model)
    halves = torch.cat([layer.up_proj(x), layer.gate_proj(x)], dim=-1)
    torch.testing.assert_close(layer(x), layer.down_proj(F.glu(halves)))


@given(activation=st.sampled_from(get_args(ActivationName)), seed=st.integers(0, 99))
def test_every_variant_is_its_formula(activation: ActivationName, seed: int) -> None:
    """The second opinion on each nonlinearity is the function of torch that bears its name."""
    nonlinearity = {
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU(approximate="tanh"),
        "silu": nn.SiLU(),
        "relu": nn.ReLU(),
        "relu2": lambda x: nn.ReLU()(x) ** 2,
        "sigmoid": nn.Sigmoid(),
        "identity": nn.Identity(),
    }[activation]
    torch.manual_seed(seed)
    x = torch.randn(4, 5)
    plain = MLPConfig(d_ff=7, activation=activation).build(5)
    torch.testing.assert_close(plain(x), plain.down_proj(nonlinearity(plain.up_proj(x))))
    gated = GatedMLPConfig(d_ff=7, activation=activation).build(5)
    hidden = nonlinearity(gated.gate_proj(x)) * gated.up_proj(x)
    torch.testing.assert_close(gated(x), gated.down_proj(hidden))


def test_swapping_the_halves_of_a_bilinear_layer_changes_nothing() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5)
    for activation, symmetric in (("identity", True), ("sigmoid", False), ("silu", False)):
        layer = GatedMLPConfig(d_ff=7, activation=activation).build(5)
        before = layer(x)
        layer.gate_proj, layer.up_proj = layer.up_proj, layer.gate_proj
        assert torch.allclose(layer(x), before, atol=1e-6) is symmetric


def test_swiglu_is_its_formula_in_hugging_face() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = LlamaMLP(LlamaConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2))
    ours = GatedMLPConfig(d_ff=12).build(8)
    ours.load_state_dict(theirs.state_dict())
    assert ours.activation is silu
    x = torch.linspace(-3, 3, 40).view(5, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_sizes() -> None:
    assert MLPConfig().build(6).up_proj.weight.shape == (24, 6)
    assert MLPConfig(d_ff=7, bias=False).build(6).up_proj.bias is None
    gated = GatedMLPConfig(d_ff=16).build(6)
    plain = MLPConfig(d_ff=24, bias=False).build(6)
    # Two thirds of the width, the same number of weights.
    assert sum(p.numel() for p in gated.parameters()) == sum(p.numel() for p in plain.parameters())
