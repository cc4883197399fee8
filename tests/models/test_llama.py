from __future__ import annotations

from typing import Any

import pytest
from tiny_families import llama as tiny

from stemma.errors import ModelError
from stemma.models.families import FAMILIES, family_of
from stemma.nn import (
    AttentionConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    MLPConfig,
    RMSNormConfig,
    RotaryConfig,
)

LLAMA = FAMILIES["llama"]


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
