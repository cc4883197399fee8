"""Batches x model -> weights."""

from stemma.training.checkpoint import Checkpoint, CheckpointStore
from stemma.training.loop import Trainer
from stemma.training.metrics import MetricsLog, read_metrics
from stemma.training.objective import LossTerms, NextToken, Objective, TargetGivenSource
from stemma.training.optimizers import AdamWConfig, MuonConfig, OptimizerConfig
from stemma.training.precision import choose_dtype
from stemma.training.report import StepReport, TrainingResult
from stemma.training.schedule import ScheduleConfig
from stemma.training.settings import TrainingConfig

__all__ = [
    "AdamWConfig",
    "Checkpoint",
    "CheckpointStore",
    "LossTerms",
    "MetricsLog",
    "MuonConfig",
    "NextToken",
    "Objective",
    "OptimizerConfig",
    "ScheduleConfig",
    "StepReport",
    "TargetGivenSource",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "choose_dtype",
    "read_metrics",
]
