"""A model as it is while it generates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from stemma.models import LanguageModel


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Put a module into evaluation mode (no dropout), and every part back as it was afterwards."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    was_training = [module for module in modules if module.training]
    for module in was_training:
        module.training = False
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def device_of(model: LanguageModel) -> torch.device:
    """Where its parameters are; the CPU if it has none."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
