from __future__ import annotations

from typing import Any

import pytest
from tiny_families import qwen3 as tiny

from stemma.errors import ModelError
from stemma.models import preset
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, GatedMLPConfig, LayerNormConfig, RMSNormConfig

QWEN3 = FAMILIES["qwen3"]


def test_the_quickstarts_model_is_a_qwen3() -> None:
    assert family_of(preset("quickstart")) is QWEN3


def test_each_family_is_told_from_the_others() -> None:
    plain = AttentionConfig(n_heads=2, bias=False)
    assert family_of(tiny()) is QWEN3
    assert family_of(tiny(attention=plain)) is FAMILIES["llama"]
    assert family_of(preset("gpt2-xl")) is FAMILIES["gpt2"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"attention": AttentionConfig(n_heads=2, bias=False)}, "attention.qk_norm = None"),
        (
            {"attention": AttentionConfig(n_heads=2, qk_norm=LayerNormConfig())},
            "attention.qk_norm.kind = 'layer_norm'",
        ),
        (
            {"attention": AttentionConfig(n_heads=1, qk_norm=RMSNormConfig(eps=1e-3))},
            "attention.qk_norm.eps = 0.001",
        ),
        ({"feedforward": GatedMLPConfig(d_ff=8, bias=True)}, "feedforward.bias = True"),
    ],
)
def test_what_qwen3_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        QWEN3.write_config(tiny(**changes))
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_sliding_window", "yes"),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("num_experts", 8),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{key} = .*qwen3"):
        QWEN3.read_config({**QWEN3.write_config(tiny()), key: value})


def test_a_window_that_is_switched_off_is_no_window() -> None:
    config_json = {**QWEN3.write_config(tiny()), "sliding_window": 4096, "max_window_layers": 1}
    assert QWEN3.read_config(config_json) == tiny()
