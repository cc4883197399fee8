"""The optimizers, each with the paper it came from."""

from stemma.training.optimizers.adamw import AdamW
from stemma.training.optimizers.groups import AdamWConfig, MuonConfig, OptimizerConfig
from stemma.training.optimizers.muon import Muon, orthogonalize
from stemma.training.optimizers.named import OptimizerSet

__all__ = [
    "AdamW",
    "AdamWConfig",
    "Muon",
    "MuonConfig",
    "OptimizerConfig",
    "OptimizerSet",
    "orthogonalize",
]
