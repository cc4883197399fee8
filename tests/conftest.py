"""What every test may ask for: the mirror of real data, and one thread per worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Nothing here may depend on how busy the machine is: no deadline, no complaint about slow draws.
settings.register_profile("stemma", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stemma")


@pytest.fixture(scope="session")
def mirror() -> Callable[[str], Path]:
    """Path of a file of the mirror (``STEMMA_MIRROR``); skips, naming it, where it is absent."""

    def find(relative: str) -> Path:
        folder = os.environ.get("STEMMA_MIRROR")
        if not folder:
            pytest.skip(f"needs {relative}: set STEMMA_MIRROR to a folder that holds it")
        path = Path(folder) / relative
        if not path.exists():
            pytest.skip(f"needs {relative}, which is not in STEMMA_MIRROR={folder}")
        return path

    return find


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, a GGUF file: ``STEMMA_SMOLLM2``, or what its name leads to."""
    if path := os.environ.get("STEMMA_SMOLLM2"):
        return Path(path)
    return _named("smollm2")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2: ``STEMMA_MINILM``, or what its name leads to."""
    if path := os.environ.get("STEMMA_MINILM"):
        return Path(path)
    return _named("minilm")


def _named(name: str) -> Path:
    from stemma.errors import DataError
    from stemma.hub import resolve

    try:
        return resolve(name)
    except DataError as error:
        pytest.skip(f"needs {name}, which `stemma pull {name}` fetches: {error.what}")
