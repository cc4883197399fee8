"""Qwen2 and Mistral: Llama's shape with other biases, and with windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models import LocalLayersConfig, TransformerConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig, RotaryConfig

Check = Callable[..., None]
BIAS = {"qwen2": "qkv", "mistral": False}
NAMES = pytest.mark.parametrize("name", BIAS)


def tiny(name: str, **changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": AttentionConfig(
            n_heads=2, n_kv_heads=1, d_head=6 if name == "mistral" else None, bias=BIAS[name]
        ),
        "feedforward": GatedMLPConfig(d_ff=12),
        "norm": RMSNormConfig(),
        "position": RotaryConfig(),
        "tie_embeddings": False,
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn, name: str) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    sizes = st.sampled_from([2, 4, 10]) if name == "mistral" else st.none()
    every = st.none() if name == "mistral" else st.sampled_from([None, 2])
    windows = st.builds(LocalLayersConfig, window=st.integers(1, 9), global_every=every)
    return tiny(
        name,
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(
            n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=draw(sizes), bias=BIAS[name]
        ),
        feedforward=GatedMLPConfig(d_ff=draw(st.integers(1, 40))),
        norm=RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3]))),
        position=RotaryConfig(theta=draw(st.sampled_from([100.0, 1_000_000.0]))),
        tie_embeddings=draw(st.booleans()),
        local=draw(st.none() | windows),
    )


@NAMES
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(
    assert_parity: Check, name: str, data: st.DataObject, seed: int
) -> None:
    assert_parity(FAMILIES[name], data.draw(configs(name)), seed)


@NAMES
def test_the_comparison_can_fail(assert_sensitivity: Check, name: str) -> None:
    assert_sensitivity(FAMILIES[name], tiny(name))


@pytest.mark.parametrize("tied", [True, False])
@NAMES
def test_round_trip_is_identical_to_the_bit(
    assert_round_trip: Check, name: str, tied: bool
) -> None:
    torch.manual_seed(3)
    their_config = {"qwen2": transformers.Qwen2Config, "mistral": transformers.MistralConfig}[name]
    their_class = getattr(transformers, FAMILIES[name].architecture)
    sizes = {"head_dim": 6} if name == "mistral" else {}
    other = their_class(
        their_config(
            vocab_size=23,
            max_position_embeddings=9,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=12,
            sliding_window=None,
            tie_word_embeddings=tied,
            **sizes,
        )
    )
    assert_round_trip(FAMILIES[name], tiny(name, tie_embeddings=tied), other)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("qwen2", {"attention": AttentionConfig(n_heads=2)}, "attention.bias = True"),
        ("qwen2", {"attention": AttentionConfig(n_heads=2, bias=False)}, "attention.bias = False"),
        (
            "qwen2",
            {"attention": AttentionConfig(n_heads=2, bias="qkv", d_head=6)},
            "attention.d_head = 6",
        ),
        (
            "qwen2",
            {"attention": AttentionConfig(n_heads=2, bias="qkv", qk_norm=RMSNormConfig())},
            "attention.qk_norm",
        ),
        ("mistral", {"attention": AttentionConfig(n_heads=2)}, "attention.bias = True"),
        ("mistral", {"feedforward": GatedMLPConfig(d_ff=4, bias=True)}, "feedforward.bias"),
    ],
)
def test_what_they_cannot_express_is_named(name: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        FAMILIES[name].write_config(tiny(name, **changes))
    assert field in str(caught.value)


def test_a_bias_of_queries_keys_and_values_is_qwen2s_alone() -> None:
    assert family_of(tiny("qwen2")) is FAMILIES["qwen2"]
    for name in ("gpt2", "llama", "qwen3"):
        with pytest.raises(ModelError):
            FAMILIES[name].write_config(tiny("qwen2"))


@pytest.mark.parametrize(
    ("name", "key", "value", "named"),
    [
        ("qwen2", "use_sliding_window", "yes", "use_sliding_window"),
        ("qwen2", "layer_types", ["sliding_attention"] * 2, "layer_types"),
        ("qwen2", "attention_bias", True, "attention_bias"),
        ("qwen2", "sliding_window", 4, None),
        ("mistral", "sliding_window", 0, "sliding_window"),
        ("mistral", "attention_bias", True, "attention_bias"),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(
    name: str, key: str, value: Any, named: str | None
) -> None:
    config_json = {**FAMILIES[name].write_config(tiny(name)), key: value}
    if named is None:
        assert FAMILIES[name].read_config(config_json) == tiny(name)
        return
    with pytest.raises(ModelError, match=f"{named} = .*{name}"):
        FAMILIES[name].read_config(config_json)


@pytest.mark.parametrize("every", [None, 2])
def test_windows_show_in_the_logits(assert_parity: Check, every: int | None) -> None:
    local = LocalLayersConfig(window=2, global_every=every)
    assert_parity(FAMILIES["qwen2"], tiny("qwen2", local=local), 3)
    model = tiny("qwen2", local=local).build(seed=1)
    wide = tiny("qwen2").build(seed=1)
    ids = torch.arange(9)[None]
    assert model(ids)[:, :2].equal(wide(ids)[:, :2])
    assert not torch.allclose(model(ids)[:, -1], wide(ids)[:, -1])


@pytest.mark.parametrize("first", [0, 1, 2])
def test_max_window_layers_says_where_windows_begin(first: int) -> None:
    config_json = FAMILIES["qwen2"].write_config(tiny("qwen2"))
    config_json |= {
        "use_sliding_window": True,
        "sliding_window": 3,
        "max_window_layers": first,
        "layer_types": None,
    }
    if first == 1:  # a layer that sees everything below one that does not
        with pytest.raises(ModelError, match="layer_types"):
            FAMILIES["qwen2"].read_config(config_json)
        return
    local = LocalLayersConfig(window=3) if first == 0 else None
    assert FAMILIES["qwen2"].read_config(config_json).local == local
