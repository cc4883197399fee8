"""Mistral in Hugging Face's files: Llama's shape, all layers with a window or none.

Jiang et al. 2023, arXiv:2310.06825, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Mistral's ``config.json``."""
    window = config.local.window if config.local else None
    return {**llama.write_shape(config), "sliding_window": window}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Mistral.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    config = read_attention(read)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def read_attention(read: ConfigJson) -> TransformerConfig:
    """What Mistral and Mixtral share, with a feed-forward that is dense; see `llama.read_shape`."""
    window = read.optional_integer("sliding_window")
    local = LocalLayersConfig(window=window) if window else None
    d_head = read.optional_integer("head_dim")
    return llama.read_shape(read, bias=False, d_head=d_head, local=local)


FAMILY = llama.shaped("mistral", "Mistral", to_config_json, read_config)
