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
from stemma.nn import GatedMLPConfig, MoEConfig, RMSNormConfig, RotaryConfig


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
    norm, position = llama.read_norm(read), read_rotary(read)
    config = read_shape(read, llama.read_gate(read), norm, position, window=4096)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def read_shape(
    read: ConfigJson,
    feedforward: GatedMLPConfig | MoEConfig,
    norm: RMSNormConfig,
    position: RotaryConfig,
    *,
    window: int | None = None,
) -> TransformerConfig:
    """What Mistral and Mixtral share; see `llama.read_shape`.

    Args:
        read: ``config.json``.
        feedforward: of all layers.
        norm: likewise.
        position: the rotations.
        window: of a file that does not have the key.
    """
    if read.states("sliding_window"):
        window = read.optional_integer("sliding_window")
    d_head = read.optional_integer("head_dim")
    return llama.read_shape(
        read,
        attention=llama.read_heads(read, d_head=d_head, bias=False, n_kv_heads=8),
        feedforward=feedforward,
        norm=norm,
        position=position,
        local=LocalLayersConfig(window=window) if window else None,
    )


FAMILY = llama.shaped("mistral", "Mistral", to_config_json, read_config)
