"""What a family of files must know of a config: its parameters, and what decides them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from stemma.models.encoder_decoder_config import EncoderDecoderConfig
from stemma.models.memoryless import without_memory
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import AttentionConfig, MLPConfig, NoHeadConfig, PoolerConfig

HEAD = "head.weight"
EMBEDDING = "embed.tokens.weight"

ModelConfig = TransformerConfig | EncoderDecoderConfig


def resolved(config: ModelConfig) -> dict[str, Any]:
    """Dotted name of a field -> its value, for all that decides what a model computes.

    Defaults that follow from other fields are worked out; dropout, the weights' beginnings, and how
    experts are kept evenly used, which are settings of training, are left out.
    """
    if isinstance(config, TransformerConfig):
        return dict(_flat(_resolved(config)))
    values = {
        **config.model_dump(),
        "encoder": _resolved(config.encoder),
        "decoder": _resolved(config.decoder),
    }
    return dict(_flat(values))


def _resolved(config: TransformerConfig) -> dict[str, Any]:
    values = config.model_dump(exclude={"init", "dropout"})
    values["attention"] = _attention(config.attention, config.d_model)
    if config.cross_attention is not None:
        values["cross_attention"] = _attention(config.cross_attention, config.d_model)
    feedforward = values["feedforward"]
    for setting in ("capacity_factor", "jitter", "balance_loss", "z_loss", "balance_over"):
        feedforward.pop(setting, None)
    if isinstance(config.feedforward, MLPConfig):
        feedforward["d_ff"] = feedforward["d_ff"] or 4 * config.d_model
    if config.local is not None:
        local = values["local"]
        local["position"] = local["position"] or values["position"]
        local["global_every"] = [config.local.holds(i) for i in range(config.n_layers)]
    return values


def _attention(config: AttentionConfig, d_model: int) -> dict[str, Any]:
    values = config.model_dump(exclude={"dropout"})
    values["n_kv_heads"] = config.n_kv_heads or config.n_heads
    values["d_head"] = config.head_size(d_model)
    values["scale"] = config.scale_for(d_model)
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def is_base(config: ModelConfig) -> bool:
    """Whether the model ends before the logits."""
    head = None if isinstance(config, EncoderDecoderConfig) else config.head
    return isinstance(head, NoHeadConfig | PoolerConfig)


def shapes_of(config: ModelConfig) -> dict[str, torch.Size]:
    """Parameter name -> shape of the model that ``config`` describes, without its memory."""
    with without_memory():
        state = config.build().state_dict()
    return {name: tensor.shape for name, tensor in state.items() if name not in tied(config)}


def head_of(config: ModelConfig) -> str:
    """The name of the head's matrix."""
    return f"decoder.{HEAD}" if isinstance(config, EncoderDecoderConfig) else HEAD


def tied(config: ModelConfig) -> dict[str, str]:
    """Name of a matrix that is no parameter of its own -> the one that it is."""
    if isinstance(config, TransformerConfig):
        return {HEAD: EMBEDDING} if config.tie_embeddings else {}
    source, target = f"encoder.{EMBEDDING}", f"decoder.{EMBEDDING}"
    found = {target: source} if config.share_embeddings else {}
    if config.decoder.tie_embeddings:
        found[f"decoder.{HEAD}"] = found.get(target, target)
    return found
