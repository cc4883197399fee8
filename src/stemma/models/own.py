"""Shapes that no class of Hugging Face's expresses: their files are Hugging Face's, the names ours.

`stemma.hub.auto_model` teaches `transformers` to open them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models.config_facts import HEAD, shapes_of
from stemma.models.config_json import ConfigJson
from stemma.models.family import Family
from stemma.models.rows import Weight
from stemma.models.transformer_config import TransformerConfig

KEY = "transformer"
"""The key of ``config.json`` that holds a `TransformerConfig`."""


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """The whole config, and the numbers that tools look for under their usual names."""
    attention = config.attention
    return {
        KEY: config.model_dump(mode="json"),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads or attention.n_heads,
        "head_dim": attention.head_size(config.d_model),
        "tie_word_embeddings": config.tie_embeddings,
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config as it was written; the usual names must agree with it.

    Raises:
        ModelError: if it is missing, or a key disagrees with it or is not known here.
        ConfigError: if a field is unknown or out of range.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.pass_over(KEY, "auto_map")
    values = config_json.get(KEY)
    if not isinstance(values, Mapping):
        raise read.refuse(KEY, values, "it must be the table of a TransformerConfig")
    config = TransformerConfig.parse(values, source=f"config.json, {KEY}")
    for name, value in to_config_json(config).items():
        if name != KEY:
            read.must_be(name, value)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def weights(config: TransformerConfig) -> Iterator[Weight]:
    """The table of names: ours, below ``model.``."""
    for name in shapes_of(config):
        if name != HEAD:
            yield Weight(f"model.{name}", (name,))


FAMILY = Family(
    model_type="stemma",
    architecture="StemmaForCausalLM",
    base_architecture="StemmaModel",
    prefix="",
    head=f"model.{HEAD}",
    buffers=lambda config: re.compile(r"(?!)"),
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
)
