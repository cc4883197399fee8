"""Sources and their targets as batches: what an encoder reads and a decoder predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.data.order import Permutation
from stemma.data.windows import IGNORE_INDEX
from stemma.errors import ConfigError, DataError

Pair = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs for one step, padded to the longest of each side.

    Args:
        source_ids: what is read.
        source_mask: False at padding.
        ids: the targets behind the id that each begins with.
        labels: the id to predict at each position of ``ids``, or `IGNORE_INDEX`.
    """

    source_ids: Int[Tensor, "batch source"]
    source_mask: Bool[Tensor, "batch source"]
    ids: Int[Tensor, "batch target"]
    labels: Int[Tensor, "batch target"]

    @classmethod
    def of(cls, pairs: Sequence[Pair], *, start_id: int) -> PairBatch:
        """The batch of some pairs; a target ends with its own end-of-text token.

        Raises:
            DataError: if a side of a pair is empty.
        """
        for i, pair in enumerate(pairs):
            if not all(len(side) for side in pair):
                raise DataError(
                    "a source or a target is empty",
                    where=f"pair {i}",
                    cure="End each with its end-of-text token, or leave the pair out.",
                )
        sources, targets = zip(*pairs, strict=True)
        begun = [[start_id, *target[:-1]] for target in targets]
        source_ids = _padded(sources, -1)
        return cls(
            source_ids.clamp(min=0),
            source_ids >= 0,
            _padded(begun, 0),
            _padded(targets, IGNORE_INDEX),
        )

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch on another device."""
        return PairBatch(*(part.to(device) for part in self._parts()))

    def split(self, micro_batch_size: int) -> list[PairBatch]:
        """The rows in order, ``micro_batch_size`` at a time; the last part may have fewer."""
        if micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size = {micro_batch_size} is not positive")
        pieces = (torch.split(part, micro_batch_size) for part in self._parts())
        return [PairBatch(*parts) for parts in zip(*pieces, strict=True)]

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.source_ids, self.source_mask, self.ids, self.labels


class PairBatches:
    """An endless sequence of batches in which every pair comes once an epoch; see `Batches`.

    Args:
        pairs: ids of sources and targets, each with its end-of-text token.
        batch_size: rows of a step.
        seed: chooses the order.
        start_id: the id that every target begins with.

    Raises:
        DataError: if there are no pairs.
    """

    def __init__(
        self, pairs: Sequence[Pair], batch_size: int, seed: int = 0, *, start_id: int = 0
    ) -> None:
        if not pairs:
            raise DataError("there are no pairs", cure="Give at least one source and its target.")
        self.pairs = pairs
        self.batch_size = batch_size
        self.seed = seed
        self.start_id = start_id

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every pair comes once."""
        return len(self.pairs) / self.batch_size

    def batch(self, step: int) -> PairBatch:
        """The batch of a step, counted from 0."""
        indices = [index for _, part in self.windows_of(step) for index in part]
        return PairBatch.of([self.pairs[i] for i in indices], start_id=self.start_id)

    def windows_of(self, step: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Which pairs a step reads: (epoch, indices)."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(positions, len(self.pairs))
        return [
            (int(epoch), self._order(int(epoch), places[epochs == epoch]))
            for epoch in np.unique(epochs)
        ]

    def _order(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return Permutation(len(self.pairs), self.seed, stream=epoch)(places)


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "batch longest"]:
    tensors = [torch.as_tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=padding)
