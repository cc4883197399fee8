"""What is left behind when a loss or a gradient is no number any more."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stemma.errors import TrainingError
from stemma.training.contracts import BatchSource

_SHOWN_WINDOWS = 8


def all_finite(model: nn.Module) -> bool:
    """Whether every parameter of the model is a number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def save_batch(batch: Any, source: BatchSource, step: int, path: Path) -> None:
    """Write a batch's tensors and the (epoch, window) it came from as safetensors.

    Raises:
        OSError: if the disk refuses.
    """
    from safetensors.torch import save

    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in fields.items()
        if isinstance(value, Tensor)
    }
    pairs = [
        np.stack([np.full_like(indices, epoch), indices], axis=1)
        for epoch, indices in source.windows_of(step)
    ]
    tensors["windows"] = torch.from_numpy(np.concatenate(pairs))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors))


def not_a_number(
    loss: float,
    norm: float,
    step: int,
    source: BatchSource,
    *,
    kept: str,
    batch_file: Path | None,
) -> TrainingError:
    """The error that tells what became of step ``step`` (counted from 0) and how to go on.

    Args:
        loss: of the batch.
        norm: of the gradient.
        step: whose batch it was.
        source: names the windows.
        kept: which good state is on the disk.
        batch_file: where the batch was saved.
    """
    windows = "; ".join(
        f"epoch {epoch}: windows {_some(indices.tolist())}"
        for epoch, indices in source.windows_of(step)
    )
    saved = f" The batch is in {batch_file}: look at it first." if batch_file else ""
    return TrainingError(
        f"loss {loss:g}, gradient norm {norm:g}: stopped before the weights were touched. {kept}",
        where=f"step {step + 1} (batch {step}, {windows})",
        cure=f"{saved} Then continue with a lower learning rate, a longer warm-up, a smaller "
        "clip_norm, or precision float32: `stemma resume RUN --set optimizer.lr=...`.".strip(),
    )


def _some(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:_SHOWN_WINDOWS]))
    rest = len(indices) - _SHOWN_WINDOWS
    return f"{shown} and {rest} more" if rest > 0 else shown
