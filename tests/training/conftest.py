"""Puts this folder on the path: its tests and the process that they kill share one tiny model."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
# Two processes agree to the last bit only with the same number of threads.
torch.set_num_threads(1)
