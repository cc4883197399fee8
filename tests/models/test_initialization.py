"""Initialisation: standard deviations by place, a pure function of the seed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stemma.errors import ConfigError
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, MLPConfig, NoPositionsConfig

CONFIG = TransformerConfig(
    vocab_size=300,
    context_length=64,
    d_model=96,
    n_layers=3,
    attention=AttentionConfig(n_heads=4),
    tie_embeddings=False,
)


def std(weight: Tensor) -> float:
    return float(weight.detach().std())


def built(**init: object) -> Transformer:
    return Transformer(CONFIG.replace(init=init), seed=1)


def test_the_defaults_are_gpt2s() -> None:
    model = built()
    block = model.blocks[1]
    for weight in (
        model.embed.tokens.weight,
        model.embed.positions.weight,
        model.head.weight,
        block.attention.q_proj.weight,
        block.feedforward.up_proj.weight,
    ):
        assert std(weight) == pytest.approx(0.02, rel=0.05)
        assert abs(float(weight.detach().mean())) < 1e-3
    for weight in (block.attention.o_proj.weight, block.feedforward.down_proj.weight):
        assert std(weight) == pytest.approx(0.02 / math.sqrt(6), rel=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0
        elif "norm" in name:
            assert parameter.unique().tolist() == [1]


def test_each_setting_changes_its_place_alone() -> None:
    modern = built(std="fan_in", embedding_std=1.0, residual="zero", head="zero")
    block = modern.blocks[0]
    assert std(modern.embed.tokens.weight) == pytest.approx(1, rel=0.05)
    assert std(block.attention.k_proj.weight) == pytest.approx(96**-0.5, rel=0.05)
    assert block.attention.o_proj.weight.abs().max() == 0
    assert block.feedforward.down_proj.weight.abs().max() == 0
    assert modern.head.weight.abs().max() == 0
    wide_in = built(std="fan_in", residual="plain").blocks[0].feedforward.down_proj.weight
    assert std(wide_in) == pytest.approx(384**-0.5, rel=0.05)
    assert std(built(residual="plain").blocks[0].attention.o_proj.weight) == pytest.approx(
        0.02, rel=0.05
    )


def test_each_expert_is_drawn_as_a_dense_layer_is() -> None:
    experts = {"kind": "moe", "d_ff": 200, "n_experts": 5}
    for init, up, down in (
        ({}, 0.02, 0.02 / math.sqrt(6)),
        ({"std": "fan_in", "residual": "plain"}, 96**-0.5, 200**-0.5),
        ({"residual": "zero"}, 0.02, 0.0),
    ):
        layer = Transformer(CONFIG.replace(feedforward=experts, init=init), seed=1)
        part = layer.blocks[1].feedforward
        for expert in range(5):
            assert std(part.gate_proj.weight[expert]) == pytest.approx(up, rel=0.05)
            assert std(part.up_proj.weight[expert]) == pytest.approx(up, rel=0.05)
            assert std(part.down_proj.weight[expert]) == pytest.approx(down, rel=0.05)
        assert std(part.router.weight) == pytest.approx(up, rel=0.1)
    assert part.gate_proj.weight.flatten(1).unique(dim=0).shape[0] == 5


def test_a_zero_head_predicts_uniformly() -> None:
    log_probs = built(head="zero").next_log_probs(torch.arange(6)[None])
    torch.testing.assert_close(log_probs, torch.full((1, 6, 300), -math.log(300)))


def test_a_tied_head_is_drawn_as_an_embedding() -> None:
    tied = Transformer(CONFIG.replace(tie_embeddings=True, init={"head": "zero"}), seed=1)
    assert std(tied.head.weight) == pytest.approx(0.02, rel=0.05)


def test_one_seed_one_model_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    first = Transformer(CONFIG, seed=5).state_dict()
    torch.manual_seed(123)
    second = Transformer(CONFIG, seed=5).state_dict()
    assert torch.get_rng_state().equal(torch.Generator().manual_seed(123).get_state())
    torch.set_rng_state(before)
    assert all(first[name].equal(second[name]) for name in first)
    other = Transformer(CONFIG, seed=6).state_dict()
    assert not other["blocks.0.attention.q_proj.weight"].equal(
        first["blocks.0.attention.q_proj.weight"]
    )


def test_weights_differ_from_each_other() -> None:
    weights = [p for p in Transformer(CONFIG).parameters() if p.ndim == 2]
    firsts = {float(weight.detach().flatten()[0]) for weight in weights}
    assert len(firsts) == len(weights)


def test_the_residual_stream_keeps_its_size_at_any_depth() -> None:
    """GPT-2's scaling: the final over the initial root mean square does not grow with depth."""

    def growth(n_layers: int, residual: str) -> float:
        config = TransformerConfig(
            vocab_size=64,
            context_length=16,
            d_model=64,
            n_layers=n_layers,
            attention=AttentionConfig(n_heads=1),
            feedforward=MLPConfig(activation="relu"),
            position=NoPositionsConfig(),
            init={"std": "fan_in", "embedding_std": 1.0, "residual": residual},
        )
        model = Transformer(config, seed=0)
        model.final_norm = nn.Identity()
        ids = torch.arange(64).view(4, 16)
        sizes = [
            part(ids).square().mean().sqrt() for part in (model.embed.tokens, model.hidden_states)
        ]
        return float((sizes[1] / sizes[0]).detach())

    depths = [2, 8, 32]
    scaled = [growth(n, "scaled") for n in depths]
    plain = [growth(n, "plain") for n in depths]
    slope = math.log(scaled[-1] / scaled[0]) / math.log(16)
    assert abs(slope) < 0.05
    assert math.log(plain[-1] / plain[0]) / math.log(16) > 0.3


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="residual = 'none'"):
        built(residual="none")
