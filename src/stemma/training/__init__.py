"""Batches x model -> weights."""

from stemma.training.checkpoint import Checkpoint, CheckpointStore
from stemma.training.loop import Trainer
from stemma.training.metrics import MetricsLog, read_metrics
from stemma.training.objective import LossTerms, NextToken, Objective
from stemma.training.report import StepReport, TrainingResult
from stemma.training.settings import TrainingConfig

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "LossTerms",
    "MetricsLog",
    "NextToken",
    "Objective",
    "StepReport",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "read_metrics",
]
