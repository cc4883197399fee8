"""Mixtral in Hugging Face's files: Mistral with experts, whose chosen weights sum to 1.

Jiang et al. 2024, arXiv:2401.04088, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import llama, mistral
from stemma.models.config_json import ConfigJson
from stemma.models.experts_json import expert_weights, read_experts
from stemma.models.family import expect
from stemma.models.rotary_json import read_rotary
from stemma.models.rows import Row
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import MoEConfig


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Mixtral's ``config.json``.

    Raises:
        ModelError: if the feed-forward is no mixture of experts.
    """
    moe = expect(config.feedforward, MoEConfig, "feedforward")
    return {
        **mistral.to_config_json(config),
        "num_local_experts": moe.n_experts,
        "num_experts_per_tok": moe.n_active,
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Mixtral.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    moe = read_experts(
        read,
        d_ff=read.integer("intermediate_size"),
        n_experts=read.integer("num_local_experts", 8),
        n_active=read.integer("num_experts_per_tok", 2),
    )
    norm, position = llama.read_norm(read, 1e-5), read_rotary(read, 1_000_000.0)
    config = mistral.read_shape(read, moe, norm, position)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names: Llama's, and those of routers and experts."""
    yield from llama.frame_weights(config)
    yield from expert_weights(config, "block_sparse_moe", ("w1", "w3", "w2"))


FAMILY = llama.shaped("mixtral", "Mixtral", to_config_json, read_config, weights)
