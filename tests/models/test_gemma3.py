"""Gemma 3: windows and wholes with rotations of their own, norms on both sides, bounded logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import gemma3 as tiny

from stemma.errors import ModelError
from stemma.models.families import FAMILIES, family_of
from stemma.nn import (
    LinearHeadConfig,
    RMSNormConfig,
    RotaryConfig,
)

GEMMA = FAMILIES["gemma3_text"]


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
