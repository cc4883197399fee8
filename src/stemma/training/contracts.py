"""What the loop asks of its parts, and nothing more: any batch, optimizer or schedule that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


@runtime_checkable
class TrainingBatch(Protocol):
    """Rows of one step. A dataclass, so that a bad one can be saved field by field."""

    @property
    def ids(self) -> Tensor:
        """The ids a model reads; their number is the number of tokens."""

    def to(self, device: Any) -> Self:
        """The batch on another device."""

    def split(self, micro_batch_size: int) -> list[Self]:
        """The rows in order, ``micro_batch_size`` at a time."""


class BatchSource(Protocol):
    """Batches as a pure function of the step, which is why a run can resume at any step."""

    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every window comes once."""

    def batch(self, step: int) -> TrainingBatch:
        """The batch of a step, counted from 0."""

    def windows_of(self, step: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Which windows a step reads: (epoch, indices)."""


class Optimizer(Protocol):
    """Gradients -> new weights; each group has ``lr`` (set by the loop) and ``base_lr``."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters and their settings."""

    def step(self) -> Any:
        """Update the parameters from their gradients."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def named_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The optimizer's state as flat tensors, by parameter name."""

    def load_named_state(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take up a state that `named_state` gave."""


class Schedule(Protocol):
    """The learning rate's course."""

    def __call__(self, step: int, /) -> float:
        """The factor on every group's ``base_lr`` in the update of this step, counted from 0."""
