"""Qwen2 and Qwen2.5 in Hugging Face's files: Llama's shape, queries, keys and values with biases.

Yang et al. 2024, arXiv:2407.10671, section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.family import need
from stemma.models.transformer_config import TransformerConfig


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Qwen2's ``config.json``.

    Raises:
        ModelError: naming the field that Qwen2 cannot express.
    """
    attention = config.attention
    need(attention.bias == "qkv", "attention.bias", attention.bias)
    need(attention.qk_norm is None, "attention.qk_norm", attention.qk_norm)
    whole = attention.head_size(config.d_model) * attention.n_heads == config.d_model
    need(whole, "attention.d_head", attention.d_head)
    need(not config.feedforward.bias, "feedforward.bias", config.feedforward.bias)
    return {**llama.write_shape(config), **llama.write_full_attention(config)}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Qwen2.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    llama.read_full_attention(read)
    read.pass_over("head_dim")  # its classes do not look at it
    config = llama.read_shape(read, bias="qkv", d_head=None)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


FAMILY = llama.shaped("qwen2", "Qwen2", write_config, read_config)
