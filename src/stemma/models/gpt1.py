"""GPT-1 in Hugging Face's files: GPT-2's layers with the norms after the sublayers, and none last.

Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import gpt2
from stemma.models.config_facts import EMBEDDING
from stemma.models.config_json import ConfigJson
from stemma.models.family import Family, expect, need
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import (
    ActivationName,
    MLPConfig,
)

# Its classes know three nonlinearities, and "gelu" is the approximation by tanh.
_ACTIVATIONS: dict[ActivationName, str] = {"gelu_tanh": "gelu", "relu": "relu", "silu": "silu"}


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """GPT-1's ``config.json``.

    Raises:
        ModelError: if norm, feed-forward or nonlinearity are of other kinds, or the size of a head
            does not follow from ``d_model``.
    """
    activation = expect(config.feedforward, MLPConfig, "feedforward").activation
    need(activation in _ACTIVATIONS, "feedforward.activation", activation)
    return {**gpt2.write_shape(config), "afn": _ACTIVATIONS[activation]}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a GPT-1; without dropout, which is a setting of training.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.pass_over("n_special", "predict_special_tokens")
    shape = gpt2.read_shape(read, vocab_size=40_478, context_length=512)
    names = {theirs: ours for ours, theirs in _ACTIVATIONS.items()} | {"swish": "silu"}
    feedforward = {"kind": "mlp", "activation": names[read.one_of("afn", list(names), "gelu")]}
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    values = {**shape, "feedforward": feedforward, "placement": "post"}
    return TransformerConfig.parse(values, source="config.json")


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names."""
    yield Weight("transformer.tokens_embed.weight", (EMBEDDING,))
    yield Weight("transformer.positions_embed.weight", ("embed.positions.weight",))
    yield from gpt2.block_weights(config)


FAMILY = Family(
    model_type="openai-gpt",
    architecture="OpenAIGPTLMHeadModel",
    base_architecture="OpenAIGPTModel",
    prefix="transformer.",
    head="lm_head.weight",
    buffers=lambda config: re.compile(r"\.attn\.bias$|\.position_ids$"),
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
)
