"""What every test may ask for: the mirror of real data, and one thread per worker."""

from __future__ import annotations

import datetime
import os
import zlib
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow",
        choices=("none", "sample", "all"),
        default="sample",
        help="which of the slow tests to run; the sample is a fourth of them, another one each day",
    )


def _today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def pytest_report_header(config: pytest.Config) -> str:
    return f"slow tests: {config.getoption('--slow')} (sample of {_today()})"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    choice = config.getoption("--slow")
    left_out = [
        item
        for item in items
        if "slow" in item.keywords
        and (
            choice == "none"
            or (choice == "sample" and zlib.crc32(f"{_today()} {item.nodeid}".encode()) % 4)
        )
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
