"""What is applied to a finished model before it trains: checkpointing, compilation, precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from stemma.training.settings import TrainingConfig


def prepare(
    model: nn.Module, config: TrainingConfig, device: torch.device
) -> tuple[nn.Module, Callable[[], AbstractContextManager[Any]]]:
    """The module to call in training, and the context to call it in."""

    def autocast() -> AbstractContextManager[Any]:
        if config.precision == "bfloat16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    return model, autocast
