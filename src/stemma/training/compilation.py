"""torch.compile as an option: block by block, and without it where it cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from stemma.training.blocks import find_blocks

_log = logging.getLogger(__name__)


def maybe_compile(model: nn.Module, enabled: bool = True) -> nn.Module:
    """Compile the model's blocks in place, so that the names of its parameters stay.

    Blocks of one shape share one compilation, which is why this takes a fraction of the time that
    the whole model would. Compilation happens at the first call with gradients; without, a block
    runs uncompiled, since evaluation and generation come in many shapes and each would be compiled
    anew. Where it fails (no C++ compiler,
    a platform or Python that torch does not support) all blocks run uncompiled, and one logged line
    says why.

    Args:
        model: a finished model; it is changed and returned.
        enabled: with False nothing happens.

    Raises:
        ConfigError: if the model has no blocks.
    """
    if not enabled:
        return model
    blocks = find_blocks(model, purpose="compilation")
    try:
        for block in blocks:
            block.compile()
    except Exception as error:  # torch.compile refuses platforms with plain RuntimeErrors
        _give_up(blocks, error)
        return model
    for block in blocks:
        compiled = block._compiled_call_impl
        assert compiled is not None
        block._compiled_call_impl = _Attempt(block, blocks, compiled)
    return model


class _Attempt:
    """A compiled block; if the compiler fails, this and all other blocks give up on it."""

    def __init__(
        self, block: nn.Module, blocks: Sequence[nn.Module], compiled: Callable[..., Any]
    ) -> None:
        self.block = block
        self.blocks = blocks
        self.compiled = compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            uncompiled: Callable[..., Any] = self.block._call_impl
            return uncompiled(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            _give_up(self.blocks, error)
        return self.block(*args, **kwargs)


def _give_up(blocks: Sequence[nn.Module], error: Exception) -> None:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    _log.warning("compile: not possible here, training uncompiled (%s)", reason)
    for block in blocks:
        block._compiled_call_impl = None
