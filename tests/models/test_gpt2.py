from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import build_random
from tiny_families import gpt2 as tiny

from stemma.errors import ConfigError, ModelError
from stemma.models import preset
from stemma.models.families import FAMILIES, family_for, family_named, family_of, objections
from stemma.models.own import FAMILY as OWN
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    MLPConfig,
    NoPositionsConfig,
    RMSNormConfig,
    RotaryConfig,
)

GPT2 = FAMILIES["gpt2"]


def test_the_fused_map_is_transposed_and_holds_q_then_k_then_v() -> None:
    config = tiny(d_model=2, n_layers=1, attention=AttentionConfig(n_heads=1))
    state = build_random(config).state_dict()
    state["blocks.0.attention.q_proj.weight"] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    state["blocks.0.attention.k_proj.weight"] = torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    state["blocks.0.attention.v_proj.weight"] = torch.tensor([[9.0, 10.0], [11.0, 12.0]])
    state["blocks.0.attention.q_proj.bias"] = torch.tensor([1.0, 2.0])
    state["blocks.0.attention.k_proj.bias"] = torch.tensor([3.0, 4.0])
    state["blocks.0.attention.v_proj.bias"] = torch.tensor([5.0, 6.0])
    _, tensors = GPT2.to_huggingface(config, state)
    assert tensors["transformer.h.0.attn.c_attn.weight"].tolist() == [
        [1.0, 3.0, 5.0, 7.0, 9.0, 11.0],
        [2.0, 4.0, 6.0, 8.0, 10.0, 12.0],
    ]
    assert tensors["transformer.h.0.attn.c_attn.bias"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_files_of_the_base_model_lack_the_prefix_and_may_hold_masks() -> None:
    config = tiny()
    config_json, tensors = GPT2.to_huggingface(config, build_random(config).state_dict())
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 9, 9).tril()
    old["h.1.attn.masked_bias"] = torch.tensor(-1e4)
    read, state = GPT2.from_huggingface(config_json, old)
    assert read == config
    expected = dict(GPT2.translate(config, tensors))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_a_tied_head_may_be_there_too_if_it_is_the_embedding() -> None:
    config = tiny()
    config_json, tensors = GPT2.to_huggingface(config, build_random(config).state_dict())
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    assert "head.weight" not in GPT2.from_huggingface(config_json, tensors)[1]
    tensors["lm_head.weight"][0, 0] += 1
    with pytest.raises(ModelError, match=r"(?s)lm_head\.weight differs.*tie_word_embeddings"):
        GPT2.from_huggingface(config_json, tensors)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer.h.1.ln_1.bias", r"missing: transformer\.h\.1\.ln_1\.bias"),
        ("transformer.h.2.ln_1.bias", r"not part of this model: transformer\.h\.2\.ln_1\.bias"),
        ("transformer.wpe.weight", r"wpe\.weight has the shape \(3, 3\).*announces \(9, 8\)"),
        ("transformer.h.0.mlp.c_fc.weight", r"has the shape \(3, 3\).*announces \(8, 32\)"),
    ],
)
def test_other_tensors_than_announced_are_named(name: str, message: str) -> None:
    config = tiny()
    config_json, tensors = GPT2.to_huggingface(config, build_random(config).state_dict())
    if "missing" in message:
        del tensors[name]
    else:
        tensors[name] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=message):
        GPT2.from_huggingface(config_json, tensors)


def test_a_state_that_is_not_the_models_is_refused() -> None:
    state = build_random(tiny()).state_dict()
    with pytest.raises(ModelError, match=r"missing: blocks\.2"):
        GPT2.to_huggingface(tiny(n_layers=3), state)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"position": RotaryConfig()}, "position.kind = 'rotary'"),
        ({"position": NoPositionsConfig()}, "position.kind = 'none'"),
        ({"placement": "post"}, "placement = 'post'"),
        ({"residual": False}, "residual = False"),
        ({"norm": RMSNormConfig()}, "norm.kind = 'rms_norm'"),
        ({"norm": LayerNormConfig(bias=False)}, "norm.bias = False"),
        ({"attention": AttentionConfig(n_heads=2, n_kv_heads=1)}, "attention.n_kv_heads = 1"),
        ({"attention": AttentionConfig(n_heads=2, d_head=8)}, "attention.d_head = 8"),
        ({"attention": AttentionConfig(n_heads=2, bias=False)}, "attention.bias = False"),
        ({"attention": AttentionConfig(n_heads=2, qk_norm=RMSNormConfig())}, "attention.qk_norm"),
        ({"feedforward": GatedMLPConfig(d_ff=8)}, "feedforward.kind = 'gated'"),
        ({"feedforward": MLPConfig(bias=False)}, "feedforward.bias = False"),
    ],
)
def test_what_gpt2_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    config = tiny(**changes)
    with pytest.raises(ModelError) as caught:
        GPT2.write_config(config)
    assert field in str(caught.value)
    if field == "placement = 'post'":
        assert family_of(config) is FAMILIES["openai-gpt"]
    else:
        assert family_of(config) is None
        assert family_for(config) is OWN
        assert objections(config)["gpt2"].startswith(field)
        assert objections(config).keys() == FAMILIES.keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("activation_function", "tanh"),
        ("n_head", 0),
        ("n_embd", "wide"),
        ("n_layer", True),
        ("layer_norm_epsilon", -1e-5),
        ("tie_word_embeddings", "yes"),
        ("architectures", ["GPT2ForSequenceClassification"]),
        ("quantization_config", {"bits": 4}),
        ("pruned_heads", {"0": [1]}),
        ("sliding_window", 4096),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(key: str, value: Any) -> None:
    config_json = {**GPT2.write_config(tiny()), key: value}
    with pytest.raises(ModelError, match=f"{key} = .*gpt2"):
        GPT2.read_config(config_json)


def test_numbers_that_do_not_fit_one_another_are_refused() -> None:
    config_json = {**GPT2.write_config(tiny()), "n_head": 3}
    with pytest.raises(ConfigError, match=r"(?s)config\.json: .*d_model = 8.*n_heads = 3"):
        GPT2.read_config(config_json)


def test_the_config_of_the_real_gpt2_is_read() -> None:
    read = GPT2.read_config(
        {
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1,
            "bos_token_id": 50256,
            "embd_pdrop": 0.1,
            "eos_token_id": 50256,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "model_type": "gpt2",
            "n_ctx": 1024,
            "n_embd": 768,
            "n_head": 12,
            "n_layer": 12,
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "summary_activation": None,
            "summary_first_dropout": 0.1,
            "summary_proj_to_labels": True,
            "summary_type": "cls_index",
            "summary_use_proj": True,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
            "vocab_size": 50257,
        }
    )
    small = preset("gpt2-small").replace(dropout=0.0, attention=AttentionConfig(n_heads=12))
    assert read == small.replace(feedforward=MLPConfig(d_ff=3072))


@pytest.mark.parametrize("model_type", ["mamba", None, 3])
def test_an_unknown_model_type_is_refused(model_type: Any) -> None:
    with pytest.raises(ModelError, match=r"model_type = .*is not known here\nThere is: gpt2"):
        family_named(model_type)
