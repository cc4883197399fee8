"""Batches as a pure function of (seed, step): no state to save, nothing to replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.data.order import Permutation
from stemma.data.windows import WindowRows, Windows
from stemma.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows for one step.

    Args:
        ids: token ids.
        labels: the id to predict at each position, or `IGNORE_INDEX`.
        document_ids: which document of its window a position belongs to; None if attention may
            see the whole window.
    """

    ids: Int[Tensor, "batch seq"]
    labels: Int[Tensor, "batch seq"]
    document_ids: Int[Tensor, "batch seq"] | None = None

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        documents = self.document_ids
        return Batch(
            self.ids.to(device),
            self.labels.to(device),
            None if documents is None else documents.to(device),
        )

    def split(self, micro_batch_size: int) -> list[Batch]:
        """The rows in order, ``micro_batch_size`` at a time; the last part may have fewer."""
        if micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size = {micro_batch_size} is not positive")
        starts = range(0, len(self), micro_batch_size)
        return [self._part(slice(start, start + micro_batch_size)) for start in starts]

    def _part(self, rows: slice) -> Batch:
        documents = self.document_ids
        return Batch(
            self.ids[rows], self.labels[rows], None if documents is None else documents[rows]
        )


class Batches:
    """An endless sequence of batches in which every window comes once an epoch.

    Position p of the endless sequence is window ``Permutation(n, seed, stream=e)(p mod n)`` of
    epoch ``e = p div n``; step s takes positions ``s * batch_size`` and on. So a batch may begin in
    one epoch and end in the next, and nothing is lost or repeated. A run resumes at a step by
    asking for it.

    Args:
        windows: what to draw from.
        batch_size: rows of a step, over all ranks.
        seed: chooses the order.

    Raises:
        ConfigError: if the batch size is not positive.
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size} is not positive")
        self.windows = windows
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """The batch of a step, counted from 0, or one rank's rows of it.

        The ranks' parts, one after another, are the whole batch.

        Raises:
            ConfigError: if ``world_size`` does not divide the batch size, ``rank`` is not below
                it, or the step is negative.
        """
        parts = [
            self.windows.rows(indices, epoch)
            for epoch, indices in self.windows_of(step, rank=rank, world_size=world_size)
        ]
        return _to_batch(parts)

    def windows_of(
        self, step: int, *, rank: int = 0, world_size: int = 1
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Which windows a step reads: (epoch, indices) in order, mostly of a single epoch."""
        first, last = self._positions(step, rank, world_size)
        n = len(self.windows)
        chosen = []
        for epoch in range(first // n, (last - 1) // n + 1):
            start, stop = max(first - epoch * n, 0), min(last - epoch * n, n)
            order = Permutation(n, self.seed, stream=epoch)
            chosen.append((epoch, order(np.arange(start, stop))))
        return chosen

    def epoch_of(self, step: int) -> int:
        """The epoch of a step's first row, counted from 0."""
        return self._positions(step, 0, 1)[0] // len(self.windows)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every window comes once; rarely a whole number."""
        return len(self.windows) / self.batch_size

    def _positions(self, step: int, rank: int, world_size: int) -> tuple[int, int]:
        if step < 0:
            raise ConfigError(f"step {step} is negative")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} is not in 0 .. {world_size - 1}")
        rows, rest = divmod(self.batch_size, world_size)
        if rest:
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide over {world_size} ranks",
                cure=f"Choose a multiple of {world_size}.",
            )
        first = step * self.batch_size + rank * rows
        return first, first + rows


def _to_batch(parts: list[WindowRows]) -> Batch:
    joined = parts[0] if len(parts) == 1 else _join(parts)
    documents = joined.document_ids
    return Batch(
        _tensor(joined.ids),
        _tensor(joined.labels),
        None if documents is None else _tensor(documents),
    )


def _tensor(rows: NDArray[np.int64]) -> Tensor:
    # Labels are ids one further on, a view of the same rows; users flatten them with .view(-1).
    return torch.from_numpy(np.ascontiguousarray(rows))


def _join(parts: list[WindowRows]) -> WindowRows:
    documents = [part.document_ids for part in parts if part.document_ids is not None]
    return WindowRows(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(documents) if documents else None,
    )
