"""The weights a model starts from, as a pure function of a seed."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.nn.moe import ExpertLinear

_RESIDUAL_OUTPUTS = ("attention.o_proj", "feedforward.down_proj")
_HEAD = "head"


class InitConfig(Config):
    """How weights are drawn: normal with mean 0, norms' gains 1, biases 0.

    The defaults are GPT-2's (Radford et al. 2019, section 2.3): 0.02 everywhere, and
    ``0.02 / sqrt(2 n_layers)`` for the 2 n_layers matrices that write to the residual stream, whose
    sum then keeps its size at any depth.
    """

    std: float | Literal["fan_in"] = Field(
        default=0.02,
        description="of linear maps; fan_in is 1 / sqrt(features in), which keeps variance",
    )
    embedding_std: float = Field(default=0.02, ge=0, description="of token and position embeddings")
    residual: Literal["scaled", "plain", "zero"] = Field(
        default="scaled",
        description="output maps: divided by sqrt(2 n_layers), like the others, or 0",
    )
    head: Literal["normal", "zero"] = Field(
        default="normal", description="an untied head; 0 is uniform"
    )


@torch.no_grad()
def initialize(model: nn.Module, config: InitConfig, *, n_sublayers: int, seed: int) -> None:
    """Set every embedding and linear map of ``model``, in the order of its parameters.

    An expert's maps are drawn as a plain layer's are.

    Numbers are drawn on the CPU in float32, so a seed gives the same weights on every device.

    Args:
        model: with output maps named ``o_proj`` and ``down_proj`` and an output layer ``head``.
        config: the distributions.
        n_sublayers: how many maps write to the residual stream.
        seed: determines all numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: set[int] = set()
    for name, module in model.named_modules():
        known = isinstance(module, nn.Embedding | nn.Linear | ExpertLinear)
        if not known or id(module.weight) in drawn:
            continue
        drawn.add(id(module.weight))
        std = _std(name, module, config, n_sublayers)
        _draw(module.weight, std, generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()


def _std(
    name: str, module: nn.Embedding | nn.Linear | ExpertLinear, config: InitConfig, n_sublayers: int
) -> float:
    if isinstance(module, nn.Embedding):
        return config.embedding_std
    if name == _HEAD and config.head == "zero":
        return 0.0
    std = 1 / math.sqrt(module.in_features) if config.std == "fan_in" else config.std
    if name.endswith(_RESIDUAL_OUTPUTS):
        return {"scaled": std / math.sqrt(n_sublayers), "plain": std, "zero": 0.0}[config.residual]
    return std


def _draw(weight: Tensor, std: float, generator: torch.Generator) -> None:
    if weight.is_meta:
        return
    if std == 0:
        weight.zero_()
        return
    weight.copy_(torch.empty(weight.shape).normal_(0, std, generator=generator))
