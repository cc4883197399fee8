"""What is applied to a finished model before it trains: checkpointing, compilation, precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn

from stemma.training.compilation import maybe_compile
from stemma.training.memory import apply_activation_checkpointing
from stemma.training.precision import autocast, choose_dtype, tune_allocator
from stemma.training.settings import TrainingConfig


def prepare(
    model: nn.Module, config: TrainingConfig, device: torch.device
) -> tuple[nn.Module, Callable[[], AbstractContextManager[Any]]]:
    """The module to call in training, and the context to call it in."""
    if config.activation_checkpointing:
        apply_activation_checkpointing(model)
    if device.type == "cpu":
        tune_allocator()
    dtype = choose_dtype(device, config.precision)
    return maybe_compile(model, config.compile), partial(autocast, device, dtype)
