"""Mistral in Hugging Face's files: Llama's shape, all layers with a window or none.

Jiang et al. 2023, arXiv:2310.06825, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.models import llama
from stemma.models.config_json import ConfigJson
from stemma.models.rotary_json import read_rotary
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
    config = read_attention(read, window=4096)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def read_attention(
    read: ConfigJson, *, window: int | None = None, eps: float = 1e-6, theta: float = 10_000.0
) -> TransformerConfig:
    """What Mistral and Mixtral share, with a feed-forward that is dense; see `llama.read_shape`.

    Args:
        read: ``config.json``.
        window: of a file that does not have the key.
        eps: likewise.
        theta: likewise.
    """
    if read.states("sliding_window"):
        window = read.optional_integer("sliding_window")
    return llama.read_shape(
        read,
        bias=False,
        d_head=read.optional_integer("head_dim"),
        local=LocalLayersConfig(window=window) if window else None,
        position=read_rotary(read, theta),
        n_kv_heads=8,
        eps=eps,
    )


FAMILY = llama.shaped("mistral", "Mistral", to_config_json, read_config)
