"""The repeated blocks of a finished model, which are compiled and checkpointed one by one."""

from __future__ import annotations

from torch import nn

from stemma.errors import ConfigError


def find_blocks(model: nn.Module, *, purpose: str) -> list[nn.Module]:
    """Every module in a list called ``blocks``, wherever it stands in the model.

    Args:
        model: a finished model.
        purpose: what they are wanted for, for the error message.

    Raises:
        ConfigError: if there are none.
    """
    found = [
        block
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "blocks" and isinstance(module, nn.ModuleList)
        for block in module
    ]
    if not found:
        raise ConfigError(
            f"{purpose} works on a model's blocks, and {type(model).__name__} has none",
            cure="Turn it off, or keep the repeated layers in an nn.ModuleList called blocks.",
        )
    return found
