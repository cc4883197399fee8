"""Activation checkpointing: memory for time, applied from outside to a finished model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stemma.training.blocks import find_blocks


def apply_activation_checkpointing(model: nn.Module) -> None:
    """Keep only each block's input, and compute its inside again when the gradient needs it.

    Loss and gradients stay the same, dropout included: the random state of the first pass is
    restored for the second. Without gradients (evaluation, generation) a block runs as before. A
    second call changes nothing, nor do parameter names change.

    Chen et al. 2016, arXiv:1604.06174.

    Raises:
        ConfigError: if the model has no blocks.
    """
    for block in find_blocks(model, purpose="activation checkpointing"):
        if not isinstance(block.forward, _Checkpointed):
            block.forward = _Checkpointed(block.forward)


class _Checkpointed:
    """A block's forward pass; an object, so that a copied model copies it with the block."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
