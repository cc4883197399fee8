"""Gemma 3: windows and wholes with rotations of their own, norms on both sides, bounded logits."""

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
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LinearHeadConfig,
    LinearScalingConfig,
    RMSNormConfig,
    RotaryConfig,
)

Check = Callable[..., None]
GEMMA = FAMILIES["gemma3_text"]


def tiny(**changes: Any) -> TransformerConfig:
    norm = RMSNormConfig(from_one=True)
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 3,
        "attention": AttentionConfig(
            n_heads=2, n_kv_heads=1, d_head=6, bias=False, qk_norm=norm, scale=7**-0.5
        ),
        "feedforward": GatedMLPConfig(d_ff=12, activation="gelu_tanh"),
        "norm": norm,
        "position": RotaryConfig(theta=1_000_000.0),
        "placement": "sandwich",
        "local": LocalLayersConfig(window=3, global_every=2, position=RotaryConfig(theta=10_000.0)),
        "scale_embeddings": True,
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    norm = RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3])), from_one=True)
    local = LocalLayersConfig(
        window=draw(st.integers(1, 9)),
        global_every=draw(st.sampled_from([None, 2, 3])),
        position=RotaryConfig(theta=draw(st.sampled_from([100.0, 10_000.0]))),
    )
    return tiny(
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        n_layers=draw(st.integers(1, 4)),
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
            qk_norm=norm,
            scale=draw(st.sampled_from([1, 7, 256])) ** -0.5,
        ),
        feedforward=GatedMLPConfig(d_ff=draw(st.integers(1, 40)), activation="gelu_tanh"),
        norm=norm,
        position=RotaryConfig(
            theta=draw(st.sampled_from([100.0, 1_000_000.0])),
            scaling=draw(st.sampled_from([None, LinearScalingConfig(factor=8.0)])),
        ),
        local=local,
        head=LinearHeadConfig(softcap=draw(st.sampled_from([None, 2.0]))),
        tie_embeddings=draw(st.booleans()),
    )


@settings(max_examples=25)
@given(config=configs(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(
    assert_parity: Check, config: TransformerConfig, seed: int
) -> None:
    assert_parity(GEMMA, config, seed)


def test_the_comparison_can_fail(assert_sensitivity: Check) -> None:
    assert_sensitivity(GEMMA, tiny())


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_identical_to_the_bit(assert_round_trip: Check, tied: bool) -> None:
    torch.manual_seed(3)
    other = transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(
            vocab_size=23,
            max_position_embeddings=9,
            hidden_size=8,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=6,
            intermediate_size=12,
            query_pre_attn_scalar=7,
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            tie_word_embeddings=tied,
            pad_token_id=None,
        )
    )
    for name, parameter in other.named_parameters():
        if "norm" in name:  # which start as zeros
            parameter.data.normal_(0, 0.3)
    assert_round_trip(GEMMA, tiny(tie_embeddings=tied), other)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_embeddings": False},
        {"placement": "pre"},
        {"local": None},
        {"norm": RMSNormConfig()},
        {"position": RotaryConfig(theta=10.0)},
        {"head": LinearHeadConfig(softcap=1.0)},
        {"attention": tiny().attention.replace(scale=None)},
    ],
)
def test_every_part_changes_the_logits(change: dict[str, Any]) -> None:
    ids = torch.arange(9)[None]
    model = tiny().build(seed=2)
    other = tiny(**change).build(seed=2)
    with torch.no_grad():
        for m in (model, other):
            for parameter in m.parameters():
                parameter.mul_(10)
            assert m(ids).isfinite().all()
    other.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(model(ids), other(ids), atol=1e-5)


def test_the_file_of_the_270m_is_read_in_the_old_spelling() -> None:
    """The values of google/gemma-3-270m's config.json."""
    config = GEMMA.read_config(
        {
            "_sliding_window_pattern": 6,
            "architectures": ["Gemma3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": None,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 640,
            "initializer_range": 0.02,
            "intermediate_size": 2048,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
            "max_position_embeddings": 32768,
            "model_type": "gemma3_text",
            "num_attention_heads": 4,
            "num_hidden_layers": 18,
            "num_key_value_heads": 1,
            "pad_token_id": 0,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": 512,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.55.0.dev0",
            "use_bidirectional_attention": False,
            "use_cache": True,
            "vocab_size": 262144,
        }
    )
    with torch.device("meta"):
        model = config.build()
    assert model.n_parameters() == 268_098_176
    assert family_of(config) is GEMMA


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"attention": tiny().attention.replace(softcap=5.0)}, "attention.softcap = 5.0"),
        ({"attention": tiny().attention.replace(sinks=True)}, "attention.sinks = True"),
        ({"norm": RMSNormConfig()}, "norm.from_one = False"),
        ({"scale_embeddings": False}, "scale_embeddings = False"),
        ({"placement": "pre"}, "placement = 'pre'"),
        ({"causal": False}, "causal = False"),
    ],
)
def test_what_gemma_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        GEMMA.write_config(tiny(**changes))
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_bidirectional_attention", True),
        ("attn_logit_softcapping", 50.0),
        ("layer_types", ["full_attention", "full_attention", "sliding_attention"]),
        ("layer_types", ["chunked_attention"] * 3),
        ("layer_types", ["full_attention"]),
        ("hidden_activation", "tanh"),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{key} = .*gemma3_text"):
        GEMMA.read_config({**GEMMA.write_config(tiny()), key: value})
