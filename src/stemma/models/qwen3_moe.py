"""Qwen3's mixtures of experts in Hugging Face's files: every layer has experts, none is shared.

Yang et al. 2025, arXiv:2505.09388, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models import llama, qwen3
from stemma.models.config_json import ConfigJson
from stemma.models.experts_json import expert_weights, read_experts
from stemma.models.family import expect
from stemma.models.rows import Row
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import MoEConfig


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """The ``config.json`` of a Qwen3 with experts.

    Raises:
        ModelError: if the feed-forward is no mixture of experts.
    """
    moe = expect(config.feedforward, MoEConfig, "feedforward")
    return {
        **qwen3.to_config_json(config),
        "moe_intermediate_size": moe.d_ff,
        "num_experts": moe.n_experts,
        "num_experts_per_tok": moe.n_active,
        "norm_topk_prob": moe.renormalize,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Qwen3 with experts.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("decoder_sparse_step", 1)
    read.must_be("mlp_only_layers", [])
    read.must_be("use_sliding_window", False)  # its classes would give all layers the window
    n_experts = read.integer("num_experts" if "num_experts" in read else "num_local_experts", 128)
    moe = read_experts(
        read,
        d_ff=read.integer("moe_intermediate_size", 768),
        n_experts=n_experts,
        n_active=read.integer("num_experts_per_tok", 8),
        renormalize=read.flag("norm_topk_prob", False),
    )
    read.integer("intermediate_size")  # of layers without experts: there are none
    config = qwen3.read_shape(read, moe, n_kv_heads=4)
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names: Qwen3's without its feed-forward, and those of routers and experts."""
    yield from llama.frame_weights(config)
    yield from qwen3.qk_norm_weights(config)
    yield from expert_weights(config, "mlp", ("gate_proj", "up_proj", "down_proj"))


FAMILY = llama.shaped("qwen3_moe", "Qwen3Moe", to_config_json, read_config, weights)
