"""Qwen2 and Mistral: Llama's shape with other biases, and with windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import assert_equal_logits
from tiny_families import mistral, qwen2

from stemma.errors import ModelError
from stemma.models import LocalLayersConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig

TINY = {"qwen2": qwen2, "mistral": mistral}


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
        FAMILIES[name].write_config(TINY[name](**changes))
    assert field in str(caught.value)


def test_a_bias_of_queries_keys_and_values_is_qwen2s_alone() -> None:
    assert family_of(qwen2()) is FAMILIES["qwen2"]
    for name in ("gpt2", "llama", "qwen3"):
        with pytest.raises(ModelError):
            FAMILIES[name].write_config(qwen2())


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
    config_json = {**FAMILIES[name].write_config(TINY[name]()), key: value}
    if named is None:
        assert FAMILIES[name].read_config(config_json) == TINY[name]()
        return
    with pytest.raises(ModelError, match=f"{named} = .*{name}"):
        FAMILIES[name].read_config(config_json)


@pytest.mark.parametrize("every", [None, 2])
def test_windows_show_in_the_logits(every: int | None) -> None:
    local = LocalLayersConfig(window=2, global_every=every)
    assert_equal_logits("qwen2", qwen2(local=local), 3)
    model = qwen2(local=local).build(seed=1)
    wide = qwen2().build(seed=1)
    ids = torch.arange(9)[None]
    assert model(ids)[:, :2].equal(wide(ids)[:, :2])
    assert not torch.allclose(model(ids)[:, -1], wide(ids)[:, -1])


@pytest.mark.parametrize("first", [0, 1, 2])
def test_max_window_layers_says_where_windows_begin(first: int) -> None:
    config_json = FAMILIES["qwen2"].write_config(qwen2())
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
