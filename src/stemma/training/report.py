"""What the loop tells while it runs and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Args:
        step: updates so far, this one included.
        steps: updates in all.
        loss: mean over the batch's labels, in nats.
        lr: learning rate of the first parameter group.
        grad_norm: of the whole gradient, before clipping.
        tokens: read so far.
        tokens_per_second: over the last steps; evaluation and checkpoints are not counted.
        seconds: of training so far, through every interruption; likewise.
        epoch: passes over the data so far.
        metrics: the objective's own, each a mean over the batch's labels.
    """

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    seconds: float
    epoch: float
    metrics: Mapping[str, float]

    def line(self) -> dict[str, Any]:
        """As a line of ``metrics.jsonl``."""
        line = asdict(self)
        del line["steps"]
        own = line.pop("metrics")
        return {**line, **own}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What `Trainer.fit` came to.

    Args:
        step: updates so far.
        loss: of the last batch; None before the first.
        evaluation: the last one's numbers.
        tokens: read so far.
        seconds: of training, through every interruption.
        interrupted: whether a signal ended it.
        resumed_from: the step of the checkpoint it began with; None if it began anew.
    """

    step: int
    loss: float | None
    evaluation: Mapping[str, float]
    tokens: int
    seconds: float
    interrupted: bool
    resumed_from: int | None


@dataclass(slots=True)
class Progress:
    """How far a run is; saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None
    evaluated_at: int | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
