"""Mixtures of experts in Hugging Face's files: the rows of their weights, and what both share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stemma.models.config_json import ConfigJson
from stemma.models.family import expect
from stemma.models.rows import Row, Stack, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import MoEConfig


def read_experts(read: ConfigJson, **values: Any) -> MoEConfig:
    """The config of the experts; without how they are kept evenly used, a setting of training.

    Args:
        read: ``config.json``.
        values: the fields that each family calls by another name.

    Raises:
        ModelError: naming the key that cannot be done here.
        ConfigError: if the numbers do not fit one another.
    """
    read.pass_over("router_aux_loss_coef", "router_jitter_noise", "output_router_logits")
    activation = read.activation("hidden_act", "silu")
    return MoEConfig.parse({"activation": activation, **values}, source="config.json")


def expert_weights(
    config: TransformerConfig, place: str, names: tuple[str, str, str]
) -> Iterator[Row]:
    """The rows of the routers and the experts.

    Args:
        config: of the model.
        place: what they call the layer.
        names: what they call the maps of gate, up and down.
    """
    moe = expect(config.feedforward, MoEConfig, "feedforward")
    for i in range(config.n_layers):
        theirs, ours = f"model.layers.{i}.{place}", f"blocks.{i}.feedforward"
        yield Weight(f"{theirs}.gate.weight", (f"{ours}.router.weight",))
        for name, map_ in zip(names, ("gate_proj", "up_proj", "down_proj"), strict=True):
            experts = [f"{theirs}.experts.{e}.{name}.weight" for e in range(moe.n_experts)]
            yield Stack(tuple(experts), f"{ours}.{map_}.weight")
