"""Gemma 3's language model in Hugging Face's files: norms on both sides, five windows to one whole.

Gemma Team 2025, arXiv:2503.19786, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.family import expect
from stemma.models.qwen3 import qk_norm_weights
from stemma.models.rotary_json import read_rotary, read_table, write_rotary
from stemma.models.rows import Row
from stemma.models.transformer_config import TransformerConfig
from stemma.models.windows_json import read_local, write_layer_types
from stemma.nn import LinearHeadConfig, RotaryConfig

_THETA, _LOCAL_THETA = 1_000_000.0, 10_000.0
_OTHER_NAME = {"gelu_new": "gelu_pytorch_tanh"}


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Gemma 3's ``config.json``.

    Raises:
        ModelError: if a part is of another kind.
    """
    attention, local = config.attention, config.local
    shape = llama.write_shape(config)
    activation = shape.pop("hidden_act")
    whole = expect(config.position, RotaryConfig, "position")
    near = expect((local and local.position) or whole, RotaryConfig, "local.position")
    rotary = {
        "full_attention": write_rotary(whole)["rope_parameters"],
        "sliding_attention": write_rotary(near)["rope_parameters"],
    }
    scale = attention.scale_for(config.d_model)
    return {
        **shape,
        "rope_parameters": rotary,
        "rope_local_base_freq": near.theta,
        "hidden_activation": _OTHER_NAME.get(activation, activation),
        "attention_bias": bool(attention.bias),
        "query_pre_attn_scalar": round(scale**-2),
        "sliding_window": local.window if local else config.context_length,
        "layer_types": write_layer_types(config),
        "final_logit_softcapping": expect(config.head, LinearHeadConfig, "head").softcap,
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Gemma 3; without dropout, which is a setting of training.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("use_bidirectional_attention", False)
    bias, d_head = read.flag("attention_bias", False), read.integer("head_dim", 256)
    scalar = read.integer("query_pre_attn_scalar", 256)
    whole, near = _read_rotary(read)
    n_layers, every = read.layers("num_hidden_layers"), read.integer("sliding_window_pattern", 6)
    read.must_be("_sliding_window_pattern", every)
    usual = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(n_layers)]
    norm = llama.read_norm(read, from_one=True)
    config = llama.read_shape(
        read,
        attention=llama.read_heads(read, d_head=d_head, bias=bias, n_kv_heads=4, qk_norm=norm),
        feedforward=llama.read_gate(read, "hidden_activation"),
        norm=norm,
        position=whole,
        local=read_local(read, read.words("layer_types", usual), near),
        tied=True,
    )
    softcap = read.optional_number("final_logit_softcapping")
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config.replace(
        attention=config.attention.replace(scale=None if scalar == d_head else scalar**-0.5),
        placement="sandwich",
        scale_embeddings=True,
        head=LinearHeadConfig(softcap=softcap),
    )


def _read_rotary(read: ConfigJson) -> tuple[RotaryConfig, RotaryConfig]:
    """Of the layers that see everything, and of those with a window."""
    context = read.integer("max_position_embeddings")
    tables = read.table("rope_parameters")
    if tables is None:
        near = RotaryConfig(theta=read.number("rope_local_base_freq", _LOCAL_THETA))
        return read_rotary(read, _THETA), near
    read.pass_over("rope_theta", "rope_local_base_freq", "rope_scaling")
    both = []
    for name, theta in (("full_attention", _THETA), ("sliding_attention", _LOCAL_THETA)):
        table = tables.table(name)
        both.append(RotaryConfig(theta=theta) if not table else read_table(table, theta, context))
    tables.finish()
    return both[0], both[1]


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names: Llama's, with four norms in a layer and two for queries and keys."""
    norms = {
        "input_layernorm": "norm1",
        "post_attention_layernorm": "post_norm1",
        "pre_feedforward_layernorm": "norm2",
        "post_feedforward_layernorm": "post_norm2",
    }
    yield from llama.weights(config, norms)
    yield from qk_norm_weights(config)


FAMILY = llama.shaped("gemma3_text", "Gemma3", to_config_json, read_config, weights)
