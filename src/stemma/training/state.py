"""Model and optimizer <-> the flat tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stemma.errors import CheckpointError
from stemma.training.contracts import Optimizer

_MODEL, _OPTIMIZER = "model.", "optimizer."


def collect_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything that an update changes, by name; tied parameters once."""
    state = {_MODEL + name: tensor for name, tensor in _model_tensors(model).items()}
    for name, tensor in optimizer.named_state(model).items():
        state[_OPTIMIZER + name] = tensor
    return state


def restore_state(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], *, where: str
) -> None:
    """Put a checkpoint's tensors into the model and the optimizer; all of them or, on error, none.

    Raises:
        CheckpointError: naming the first tensor that one side lacks or has in another shape.
    """
    own = _model_tensors(model)
    saved = _under(_MODEL, tensors)
    _check(own, saved, where)
    try:
        optimizer.load_named_state(model, _under(_OPTIMIZER, tensors))
    except CheckpointError as error:
        raise _foreign(error.what, where) from error
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _model_tensors(model: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _check(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: str) -> None:
    for name in [*own, *saved]:
        if name not in saved:
            raise _foreign(f"has no {name!r}, which the model has", where)
        if name not in own:
            raise _foreign(f"has {name!r}, which the model has not", where)
        ours, theirs = own[name], saved[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            raise _foreign(
                f"{name!r} is {_describe(theirs)}, and {_describe(ours)} in the model", where
            )


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _foreign(what: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"of another model or recipe: {what}",
        where=where,
        cure="Continue with the recipe that this run was started with, or start a new run.",
    )
