"""Puts this folder on the path: the tests of all checkpoint families share what is in it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
