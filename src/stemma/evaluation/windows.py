"""Sliding windows that score every token exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemma.evaluation.source import Reader


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one batch.

    Attributes:
        ids: (batch, length + 1); the first ``length`` are inputs, the last ``length`` targets.
        n_scored: targets at the end of each window that no earlier window has scored.
    """

    ids: NDArray[np.int64]
    n_scored: int


def plan_windows(n_targets: int, length: int, stride: int) -> list[tuple[int, int, int]]:
    """Cut ``n_targets`` into runs of windows ``(start of the first, number, n_scored)``.

    The first window scores all of its targets, the others the last ``stride``. The last window ends
    with the text and scores what is left, with as long a context as the others.
    """
    length = min(length, n_targets)
    n_more, rest = divmod(n_targets - length, stride)
    runs = [(0, 1, length)]
    if n_more:
        runs.append((stride, n_more, stride))
    if rest:
        runs.append((n_targets - length, 1, rest))
    return runs


def window_batches(
    tokens: Reader, *, length: int, stride: int, batch_size: int
) -> Iterator[WindowBatch]:
    """All windows in the order of the text, ``batch_size`` at once."""
    n_targets = len(tokens) - 1
    length = min(length, n_targets)
    for first, number, n_scored in plan_windows(n_targets, length, stride):
        for done in range(0, number, batch_size):
            start = first + done * stride
            size = min(batch_size, number - done)
            stretch = tokens.read(start, start + (size - 1) * stride + length + 1)
            windows = np.lib.stride_tricks.sliding_window_view(stretch, length + 1)[::stride]
            yield WindowBatch(windows.copy(), n_scored)
