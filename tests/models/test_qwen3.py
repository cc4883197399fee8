from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models import TransformerConfig, preset
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, GatedMLPConfig, LayerNormConfig, RMSNormConfig, RotaryConfig

QWEN3 = FAMILIES["qwen3"]
Check = Callable[..., None]


def tiny(**changes: Any) -> TransformerConfig:
    norm = RMSNormConfig(eps=1e-6)
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 12,
        "n_layers": 2,
        "attention": AttentionConfig(n_heads=4, n_kv_heads=2, d_head=6, bias=False, qk_norm=norm),
        "feedforward": GatedMLPConfig(d_ff=12),
        "norm": norm,
        "position": RotaryConfig(),
        "tie_embeddings": False,
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    norm = RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3])))
    return TransformerConfig(
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=draw(st.integers(4, 24)),
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(
            n_heads=n_kv_heads * groups,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
            qk_norm=norm,
        ),
        feedforward=GatedMLPConfig(
            d_ff=draw(st.integers(1, 40)),
            activation=draw(st.sampled_from(["silu", "relu2"])),
        ),
        norm=norm,
        position=RotaryConfig(theta=draw(st.sampled_from([100.0, 10_000.0, 1_000_000.0]))),
        tie_embeddings=draw(st.booleans()),
    )


@settings(max_examples=25)
@given(config=configs(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(
    assert_parity: Check, config: TransformerConfig, seed: int
) -> None:
    assert_parity(QWEN3, config, seed)


def test_the_comparison_can_fail(assert_sensitivity: Check) -> None:
    assert_sensitivity(QWEN3, tiny())


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_identical_to_the_bit(assert_round_trip: Check, tied: bool) -> None:
    torch.manual_seed(3)
    other = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=23,
            max_position_embeddings=9,
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            intermediate_size=12,
            tie_word_embeddings=tied,
        )
    )
    assert_round_trip(QWEN3, tiny(tie_embeddings=tied), other)


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
