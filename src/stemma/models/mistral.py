"""Mistral in Hugging Face's files: Llama's shape, its window over all positions or left out.

Jiang et al. 2023, arXiv:2310.06825, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.family import need
from stemma.models.transformer_config import TransformerConfig


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Mistral's ``config.json``.

    Raises:
        ModelError: naming the field that Mistral cannot express.
    """
    attention = config.attention
    need(not attention.bias, "attention.bias", attention.bias)
    need(attention.qk_norm is None, "attention.qk_norm", attention.qk_norm)
    need(not config.feedforward.bias, "feedforward.bias", config.feedforward.bias)
    return {**llama.write_shape(config), "sliding_window": None}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Mistral.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    window = read.optional_integer("sliding_window")
    context = read.integer("max_position_embeddings")
    if window is not None and window < context:
        why = f"it sees less than the context of {context}, and windows cannot be done here"
        raise read.refuse("sliding_window", window, why)
    config = llama.read_shape(read, bias=False, d_head=read.optional_integer("head_dim"))
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


FAMILY = llama.shaped("mistral", "Mistral", write_config, read_config)
