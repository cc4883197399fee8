"""Qwen2 and Qwen2.5 in Hugging Face's files: Llama's shape, queries, keys and values with biases.

Yang et al. 2024, arXiv:2407.10671, section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.family import need_heads_that_fill
from stemma.models.rotary_json import read_rotary
from stemma.models.transformer_config import TransformerConfig
from stemma.models.windows_json import read_windows, write_windows


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Qwen2's ``config.json``.

    Raises:
        ModelError: if the size of a head does not follow from ``d_model``.
    """
    need_heads_that_fill(config)
    return {**llama.write_shape(config), **write_windows(config)}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Qwen2.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.pass_over("head_dim")  # its classes do not look at it
    config = llama.read_shape(
        read,
        attention=llama.read_heads(read, d_head=None, bias="qkv", n_kv_heads=32),
        feedforward=llama.read_gate(read),
        norm=llama.read_norm(read),
        position=read_rotary(read),
        local=read_windows(read),
    )
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


FAMILY = llama.shaped("qwen2", "Qwen2", to_config_json, read_config)
