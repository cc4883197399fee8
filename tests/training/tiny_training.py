"""A tiny model, its data and everything else that a `Trainer` wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stemma.data import IGNORE_INDEX, Batch, Batches, SlidingWindows, TokenArray
from stemma.models import Transformer, TransformerConfig
from stemma.training.checkpoint import CheckpointStore
from stemma.training.loop import Trainer
from stemma.training.metrics import MetricsLog, read_metrics
from stemma.training.objective import NextToken
from stemma.training.settings import TrainingConfig

VOCAB_SIZE = 19
CONTEXT_LENGTH = 12
N_WINDOWS = 37  # no multiple of a batch size, so that batches lie across the epochs' edges
TIMES = ("seconds", "tokens_per_second")


class TinyBlock(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        steps = torch.arange(1, x.shape[1] + 1)[:, None]
        past = normed.cumsum(1) / steps
        return x + self.dropout(torch.tanh(self.mix(torch.cat([normed, past], dim=-1))))


class TinyModel(nn.Module):
    def __init__(self, *, dropout: float = 0.0, width: int = 16, seed: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, width)
        self.blocks = nn.ModuleList(TinyBlock(width, dropout) for _ in range(2))
        self.head = nn.Linear(width, VOCAB_SIZE, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)

    def forward(self, ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def transformer(name: str, dropout: float = 0.0) -> Transformer:
    """A tiny real one: of GPT-2's parts, or of modern ones."""
    parts: dict[str, Any] = {"attention": {"n_heads": 2}}
    if name == "modern":
        parts = {
            "attention": {
                "n_heads": 2,
                "n_kv_heads": 1,
                "qk_norm": {"kind": "rms_norm"},
                "bias": False,
            },
            "feedforward": {"kind": "gated", "d_ff": 32},
            "norm": {"kind": "rms_norm"},
            "position": {"kind": "rotary"},
            "tie_embeddings": False,
        }
    return TransformerConfig.parse(
        {
            "vocab_size": VOCAB_SIZE,
            "context_length": CONTEXT_LENGTH,
            "d_model": 16,
            "n_layers": 2,
            "dropout": dropout,
            **parts,
        }
    ).build(seed=1)


class TinyAdam(torch.optim.AdamW):
    """torch's AdamW with the loop's contract."""

    def __init__(self, model: nn.Module, lr: float = 1e-2) -> None:
        super().__init__(model.parameters(), lr=lr, weight_decay=0.1)
        for group in self.param_groups:
            group["base_lr"] = group["lr"]

    def named_state(self, model: nn.Module) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, parameter in model.named_parameters()
            for key, value in self.state[parameter].items()
        }

    def load_named_state(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        for name, parameter in model.named_parameters():
            for full, value in state.items():
                owner, _, key = full.rpartition(".")
                if owner == name:
                    self.state[parameter][key] = value.clone()


class MaskedBatches(Batches):
    """Batches in which the rows have very unequal numbers of labels."""

    def batch(self, step: int, **ranks: Any) -> Batch:
        batch = super().batch(step, **ranks)
        lengths = np.random.default_rng(step).integers(1, CONTEXT_LENGTH + 1, len(batch))
        hidden = torch.arange(CONTEXT_LENGTH) >= torch.from_numpy(lengths)[:, None]
        return replace(batch, labels=batch.labels.masked_fill(hidden, IGNORE_INDEX))


def tiny_batches(batch_size: int = 4, seed: int = 5, kind: type[Batches] = Batches) -> Batches:
    rng = np.random.default_rng(1)
    steps = rng.choice([1, 2, 5], size=N_WINDOWS * CONTEXT_LENGTH + 1, p=[0.7, 0.2, 0.1])
    tokens = TokenArray((np.cumsum(steps) % VOCAB_SIZE).astype(np.uint16))
    return kind(SlidingWindows(tokens, CONTEXT_LENGTH), batch_size, seed)


def warm_then_cool(step: int) -> float:
    return min(1.0, (step + 1) / 10) * (1.0 - step / 1000)


def tiny_trainer(directory: Path | None = None, **changes: Any) -> Trainer:
    """A trainer whose state and metrics are in ``directory``; ``changes`` go to whom they fit."""
    given = {name: changes.pop(name) for name in list(changes) if name in _TRAINER}
    model = given.pop("model", None) or TinyModel(dropout=changes.pop("dropout", 0.1))
    settings = {"steps": 30, "batch_size": 4, "log_every": 1, "precision": "float32", **changes}
    config = TrainingConfig.parse(settings)
    if directory is not None:
        given.setdefault(
            "checkpoints", CheckpointStore(directory / "checkpoints", config.keep_checkpoints)
        )
        given.setdefault("metrics", MetricsLog(directory / "metrics.jsonl"))
    return Trainer(
        model,
        given.pop("objective", None) or NextToken(),
        given.pop("batches", None) or tiny_batches(config.batch_size),
        given.pop("optimizer", None) or TinyAdam(model),
        warm_then_cool,
        config,
        **given,
    )


_TRAINER = (
    "model",
    "objective",
    "batches",
    "optimizer",
    "checkpoints",
    "metrics",
    "evaluate",
    "on_step",
)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def timeless(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file without what differs from one run to the next."""
    rows = read_metrics(path)
    return [{name: row[name] for name in row if name not in TIMES} for row in rows]


def at_step(step: int, action: Callable[[], object]) -> Callable[[Any], None]:
    def on_step(report: Any) -> None:
        if report.step == step:
            action()

    return on_step
