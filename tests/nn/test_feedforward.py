"""Feed-forward layers: worked by hand, against their formula, sizes."""

from __future__ import annotations

import torch

from stemma.nn import MLP, GatedMLP, GatedMLPConfig, MLPConfig
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
