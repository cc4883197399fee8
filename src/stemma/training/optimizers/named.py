"""Several optimizers as one, whose state is known by the parameters' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stemma.errors import CheckpointError


class OptimizerSet:
    """Optimizers that step together, each on its own parameters.

    A state is flat: ``"blocks.0.attention.q_proj.weight/momentum"`` -> tensor. It holds tensors
    only, and depends neither on the order of the parameters nor on their grouping.

    Args:
        members: every group's ``lr`` becomes its ``base_lr``, which a schedule multiplies.
    """

    def __init__(self, members: Sequence[Optimizer]) -> None:
        self.members = list(members)
        for group in self.param_groups:
            group["base_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all members, in order."""
        return [group for member in self.members for group in member.param_groups]

    def step(self) -> None:
        """Update all parameters from their gradients."""
        for member in self.members:
            member.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for member in self.members:
            member.zero_grad()

    def named_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The state itself, not a copy of it, by parameter name.

        Raises:
            CheckpointError: if a parameter is not one of the model's.
        """
        names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        found: dict[str, Tensor] = {}
        for member in self.members:
            for parameter, state in member.state.items():
                if parameter not in names:
                    raise CheckpointError(
                        f"the optimizer has a parameter of shape {tuple(parameter.shape)} that "
                        f"{type(model).__name__} has not",
                        cure="Give the model that the optimizer was built for.",
                    )
                for key, tensor in state.items():
                    found[f"{names[parameter]}/{key}"] = tensor
        return dict(sorted(found.items()))

    def load_named_state(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take up a state that `named_state` gave: all of it or, on an error, nothing.

        Raises:
            CheckpointError: naming the first tensor that is missing, unknown or of another shape.
        """
        own = self.named_state(model)
        for name in [*own, *sorted(state)]:
            if name not in state:
                raise _foreign(f"has no {name!r}")
            if name not in own:
                raise _foreign(f"has {name!r}, which this optimizer has not")
            if (own[name].shape, own[name].dtype) != (state[name].shape, state[name].dtype):
                raise _foreign(
                    f"has {name!r} as {_describe(state[name])}, and this optimizer as "
                    f"{_describe(own[name])}"
                )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def summary(self) -> str:
        """One line per group: what it holds, and with which settings."""
        lines = []
        for group in self.param_groups:
            count = sum(parameter.numel() for parameter in group["params"])
            lines.append(
                f"{group['name']}: {count:,} parameters in {len(group['params'])} tensors, "
                f"lr {group['base_lr']:g}, weight decay {group['weight_decay']:g}"
            )
        return "\n".join(lines)


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _foreign(what: str) -> CheckpointError:
    return CheckpointError(
        f"the optimizer's state {what}",
        cure="Continue with the model and the optimizer that the run was started with.",
    )
