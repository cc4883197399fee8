"""Qwen3 in Hugging Face's files: Llama's shape with normed queries and keys.

Yang et al. 2025, arXiv:2505.09388, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.family import Weight, need
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import RMSNormConfig


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Qwen3's ``config.json``.

    Raises:
        ModelError: naming the field that Qwen3 cannot express.
    """
    qk_norm = config.attention.qk_norm
    need(isinstance(qk_norm, RMSNormConfig), "attention.qk_norm", qk_norm and qk_norm.kind)
    need(qk_norm == config.norm, "attention.qk_norm.eps", qk_norm and qk_norm.eps)
    need(not config.feedforward.bias, "feedforward.bias", config.feedforward.bias)
    return {
        **llama.write_shape(config),
        **llama.write_bias(config),
        **llama.write_full_attention(config),
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Qwen3.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    llama.read_full_attention(read)
    bias, d_head = read.flag("attention_bias", False), read.integer("head_dim", 128)
    config = llama.read_shape(read, bias=bias, d_head=d_head, qk_norm=True)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def weights(config: TransformerConfig) -> Iterator[Weight]:
    """The table of names: Llama's, and two gains in each layer."""
    yield from llama.weights(config)
    for i in range(config.n_layers):
        for norm in ("q_norm", "k_norm"):
            ours = f"blocks.{i}.attention.{norm}.weight"
            yield Weight(f"model.layers.{i}.self_attn.{norm}.weight", (ours,))


FAMILY = llama.shaped("qwen3", "Qwen3", write_config, read_config, weights)
