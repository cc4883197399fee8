"""Time spent training, and nothing else: evaluation and checkpoints stand outside the clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Seconds of training in all, and tokens per second over the last steps.

    Args:
        window: how many steps the rate is taken over.
        seconds: what an earlier part of the same run has spent.
    """

    def __init__(self, window: int, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._steps: deque[tuple[int, float]] = deque(maxlen=window)

    @contextmanager
    def step(self, tokens: int) -> Iterator[None]:
        """Time one step over ``tokens`` tokens."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.seconds += spent
        self._steps.append((tokens, spent))

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps; 0 before the first."""
        spent = sum(seconds for _, seconds in self._steps)
        return sum(tokens for tokens, _ in self._steps) / spent if spent else 0.0
