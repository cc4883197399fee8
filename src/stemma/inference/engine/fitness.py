"""Which models the engine can serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from stemma.config import Config
from stemma.inference.quantisation import QuantisedEmbedding, QuantisedLinear
from stemma.models import Transformer
from stemma.models.layer_kind import LayerKind
from stemma.nn import (
    MLP,
    Block,
    Embedding,
    GatedMLP,
    Head,
    LayerNorm,
    MultiHeadAttention,
    RMSNorm,
)
from stemma.nn.activation import ACTIVATIONS

DTYPES = (torch.float32, torch.bfloat16)

_SERVED: dict[str, Any] = {
    "vocab_size": None,
    "context_length": None,
    "d_model": None,
    "n_layers": None,
    "attention": {"kind": ("multi_head",), "n_heads": None, "n_kv_heads": None, "d_head": None}
    | {"bias": None, "qk_norm": None, "dropout": None},
    "feedforward": {"kind": ("mlp", "gated"), "d_ff": None, "activation": None, "bias": None},
    "norm": {"kind": ("layer_norm", "rms_norm"), "eps": None, "bias": None},
    "position": {"kind": ("learned", "rotary", "none"), "theta": None, "scaling": None},
    "placement": ("pre",),
    "residual": None,
    "tie_embeddings": None,
    "dropout": None,
    "init": None,
}
"""Fields of the config: those of a part, the values that are served, or None for all of them."""

_PARTS = (
    Transformer,
    Embedding,
    Block,
    MultiHeadAttention,
    MLP,
    GatedMLP,
    LayerNorm,
    RMSNorm,
    Head,
    LayerKind,
    nn.Linear,
    nn.Embedding,
    QuantisedLinear,
    QuantisedEmbedding,
    nn.ModuleList,
)


def obstacle(model: object) -> str | None:
    """Why the engine cannot serve a model; None if it can.

    A choice that this module does not know is an obstacle unless it is at its default.
    """
    if type(model) is not Transformer:
        return f"{type(model).__name__} is not a Transformer"
    return next(_obstacles(model), None)


def _obstacles(model: Transformer) -> Iterator[str]:
    yield from _unknown(model.config, _SERVED, "")
    if model.config.n_layers == 0:
        yield "it has no layers"
    for name, part in model.named_modules():
        if type(part) not in (*_PARTS, type(model.whole.rotary)):
            yield f"{name or 'the model'} is a {type(part).__name__}"
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            yield f"{name or 'the model'} has hooks"
    for name, weight in model.named_parameters():
        if weight.device.type != "cpu" or weight.dtype not in DTYPES:
            yield f"{name} is {weight.dtype} on {weight.device}"
        if not weight.is_contiguous() or type(weight) is not nn.Parameter:
            yield f"{name} does not lie in memory as it is"
    for layer in model.modules():
        if isinstance(layer, MLP | GatedMLP) and layer.activation not in ACTIVATIONS.values():
            yield "the feed-forward layers have a nonlinearity of their own"
    if torch.is_autocast_enabled("cpu"):
        yield "autocast is on"


def _unknown(config: Config, served: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        known = served.get(name, field.get_default())
        where = f"{prefix}{name} = {value!r}"
        if isinstance(known, dict):
            yield from _unknown(value, known, f"{prefix}{name}.")
        elif value != known if name not in served else known is not None and value not in known:
            yield where
