from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models import TransformerConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    LinearScalingConfig,
    Llama3ScalingConfig,
    MLPConfig,
    RMSNormConfig,
    RotaryConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)

LLAMA = FAMILIES["llama"]
Check = Callable[..., None]


def tiny(**changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": AttentionConfig(n_heads=2, n_kv_heads=1, d_head=4, bias=False),
        "feedforward": GatedMLPConfig(d_ff=12),
        "norm": RMSNormConfig(),
        "position": RotaryConfig(),
        "tie_embeddings": False,
    }
    return TransformerConfig(**{**values, **changes})


def scalings() -> st.SearchStrategy[RotaryScalingConfig | None]:
    factor, context = st.sampled_from([1.0, 2.0, 8.0]), st.integers(1, 12)
    return (
        st.none()
        | st.builds(LinearScalingConfig, factor=factor)
        | st.builds(Llama3ScalingConfig, factor=factor, original_context=context)
        | st.builds(YarnScalingConfig, factor=factor, original_context=context)
    )


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    return TransformerConfig(
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.none() | st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
        ),
        feedforward=GatedMLPConfig(
            d_ff=draw(st.integers(1, 40)),
            activation=draw(st.sampled_from(["gelu_tanh", "gelu", "silu", "relu", "relu2"])),
            bias=draw(st.booleans()),
        ),
        norm=RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3]))),
        position=RotaryConfig(
            theta=draw(st.sampled_from([100.0, 10_000.0, 500_000.0])), scaling=draw(scalings())
        ),
        tie_embeddings=draw(st.booleans()),
    )


@settings(max_examples=25)
@given(config=configs(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(
    assert_parity: Check, config: TransformerConfig, seed: int
) -> None:
    assert_parity(LLAMA, config, seed)


def test_the_comparison_can_fail(assert_sensitivity: Check) -> None:
    assert_sensitivity(LLAMA, tiny())


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_identical_to_the_bit(assert_round_trip: Check, tied: bool) -> None:
    torch.manual_seed(3)
    other = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=23,
            max_position_embeddings=9,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=12,
            tie_word_embeddings=tied,
        )
    )
    assert_round_trip(LLAMA, tiny(tie_embeddings=tied), other)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"position": LearnedPositionsConfig()}, "position.kind = 'learned'"),
        ({"placement": "none"}, "placement = 'none'"),
        ({"residual": False}, "residual = False"),
        ({"norm": LayerNormConfig()}, "norm.kind = 'layer_norm'"),
        ({"attention": AttentionConfig(n_heads=2, qk_norm=RMSNormConfig())}, "attention.qk_norm"),
        ({"attention": AttentionConfig(n_heads=3, d_head=4)}, "attention.n_heads = 3"),
        ({"feedforward": MLPConfig()}, "feedforward.kind = 'mlp'"),
    ],
)
def test_what_llama_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        LLAMA.write_config(tiny(**changes))
    assert field in str(caught.value)
    assert family_of(tiny(**changes)) is not LLAMA


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5000.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5000}},
        {"rope_theta": 5000.0, "rope_scaling": None},
        {"rope_theta": 5000.0, "rope_scaling": {"type": "default"}},
        {"rope_theta": 1.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
        {"rope_theta": 5000.0, "partial_rotary_factor": 1.0},
    ],
)
def test_every_spelling_of_the_rotary_base_is_read(rope: dict[str, Any]) -> None:
    config_json = LLAMA.write_config(tiny())
    del config_json["rope_theta"], config_json["rope_parameters"]
    read = LLAMA.read_config({**config_json, **rope})
    assert read.position == RotaryConfig(theta=5000.0)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("rope_scaling", {"rope_type": "longrope", "factor": 8.0}, "rope_scaling.rope_type"),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}, "rope_scaling.type"),
        ("rope_scaling", {"type": "linear", "factor": 0.5}, "rope_scaling.factor"),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0, "x": 1}, "rope_scaling.x"),
        (
            "rope_parameters",
            {"rope_type": "llama3", "factor": 2, "low_freq_factor": 4.0},
            "rope_parameters.high_freq_factor",
        ),
        (
            "rope_parameters",
            {"rope_type": "yarn", "factor": 2, "mscale": 0.7},
            "rope_parameters.mscale",
        ),
        ("rope_scaling", "linear", "rope_scaling"),
        ("rope_parameters", {"rope_type": "default", "factor": 2.0}, "rope_parameters.factor"),
        (
            "rope_parameters",
            {"rope_type": "default", "partial_rotary_factor": 0.5},
            "rope_parameters.partial_rotary_factor",
        ),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor"),
        ("pretraining_tp", 2, "pretraining_tp"),
        ("hidden_act", "xielu", "hidden_act"),
        ("attention_bias", None, None),
        ("sliding_window", 4096, "sliding_window"),
        ("num_key_value_heads", 0, "num_key_value_heads"),
        ("rope_theta", -1, "rope_theta"),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(
    key: str, value: Any, named: str | None
) -> None:
    config_json = {**LLAMA.write_config(tiny()), key: value}
    if named is None:
        assert LLAMA.read_config(config_json) == tiny()
        return
    with pytest.raises(ModelError, match=f"{named} = .*llama"):
        LLAMA.read_config(config_json)


def test_a_missing_number_is_named() -> None:
    config_json = LLAMA.write_config(tiny())
    del config_json["hidden_size"]
    with pytest.raises(ModelError, match="'hidden_size' is missing"):
        LLAMA.read_config(config_json)
