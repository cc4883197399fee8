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
    was_training = _training(model) if isinstance(model, nn.Module) else []
    for module in was_training:
        module.training = False
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def _training(model: nn.Module) -> list[nn.Module]:
    """Its parts that are in training mode, itself included.

    A walk of our own takes a quarter of the time of ``modules()`` (0.09 ms for 368 parts), and a
    batch asks at every step.
    """
    found, left = [], [model]
    while left:
        module = left.pop()
        if module.training:
            found.append(module)
        left += [part for part in module._modules.values() if part is not None]
    return found


def device_of(model: LanguageModel) -> torch.device:
    """Where its parameters are; the CPU if it has none."""
    parameters = getattr(model, "parameters", None)
    parameter = None if parameters is None else next(iter(parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device
