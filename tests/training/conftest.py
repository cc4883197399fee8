"""Puts this folder on the path: its tests and the process that they kill share one tiny model."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
# Two processes agree to the last bit only with the same number of threads.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _sigint_as_in_a_terminal() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and Python then sets no handler."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)
