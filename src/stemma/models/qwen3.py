"""Qwen3 in Hugging Face's files: Llama's shape with normed queries and keys.

Yang et al. 2025, arXiv:2505.09388, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.rotary_json import read_rotary
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.models.windows_json import read_windows, write_windows
from stemma.nn import GatedMLPConfig, MoEConfig


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Qwen3's ``config.json``."""
    bias = {"attention_bias": bool(config.attention.bias)}
    return {**llama.write_shape(config), **bias, **write_windows(config)}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Qwen3.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    config = read_shape(read, llama.read_gate(read), n_kv_heads=32)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def read_shape(
    read: ConfigJson, feedforward: GatedMLPConfig | MoEConfig, *, n_kv_heads: int
) -> TransformerConfig:
    """What all Qwen3s share; see `llama.read_shape` and `llama.read_heads`."""
    bias, d_head = read.flag("attention_bias", False), read.integer("head_dim", 128)
    norm = llama.read_norm(read)
    return llama.read_shape(
        read,
        attention=llama.read_heads(
            read, d_head=d_head, bias=bias, n_kv_heads=n_kv_heads, qk_norm=norm
        ),
        feedforward=feedforward,
        norm=norm,
        position=read_rotary(read),
        local=read_windows(read),
    )


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names: Llama's, and two gains in each layer."""
    yield from llama.weights(config)
    yield from qk_norm_weights(config)


def qk_norm_weights(config: TransformerConfig) -> Iterator[Row]:
    """The gains of the norms of queries and keys."""
    for i in range(config.n_layers):
        for norm in ("q_norm", "k_norm"):
            ours = f"blocks.{i}.attention.{norm}.weight"
            yield Weight(f"model.layers.{i}.self_attn.{norm}.weight", (ours,))


FAMILY = llama.shaped("qwen3", "Qwen3", to_config_json, read_config, weights)
