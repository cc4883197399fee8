from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TrainingError
from stemma.training.metrics import MetricsLog, read_metrics


def test_lines_are_json_and_readable_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.append({"step": 1, "loss": 2.5})
    log.append({"step": 2, "loss": 2.25})
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == read_metrics(log.path)
    assert read_metrics(log.path)[1] == {"step": 2, "loss": 2.25}


def test_what_is_not_finite_is_null_and_not_invalid_json(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "perplexity": float("inf"), "loss": float("nan")})
    assert json.loads(log.path.read_text()) == {"step": 1, "perplexity": None, "loss": None}


def test_a_rewind_drops_younger_lines_and_half_a_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(6):
        log.append({"step": step, "loss": 1.0 / (step + 1)})
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    log.rewind(3)
    log.append({"step": 4, "loss": 0.5})
    assert [row["step"] for row in read_metrics(log.path)] == [0, 1, 2, 3, 4]
    assert read_metrics(log.path)[-1]["loss"] == 0.5
    assert list(tmp_path.iterdir()) == [log.path]


@given(steps=st.lists(st.integers(0, 20), max_size=20), back_to=st.integers(-1, 20))
def test_a_rewind_keeps_exactly_the_older_lines(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], back_to: int
) -> None:
    log = MetricsLog(tmp_path_factory.mktemp("log") / "metrics.jsonl")
    rows = [{"step": step, "loss": 0.1 * place} for place, step in enumerate(steps)]
    for row in rows:
        log.append(row)
    log.rewind(back_to)
    kept = read_metrics(log.path) if steps else []
    assert kept == [row for row in rows if row["step"] <= back_to]


def test_half_a_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    assert read_metrics(path) == [{"step": 1}]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"loss": 2.0}', '{"step": null}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(TrainingError, match="line 2") as caught:
        read_metrics(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no metrics here"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    log = MetricsLog(Path("/dev/full"))
    with pytest.raises(TrainingError, match="the disk is full"):
        log.append({"step": 1})
    log.close()


def test_a_full_disk_in_a_rewind_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    log.append({"step": 2})

    def full(descriptor: int) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        log.rewind(1)
    assert [row["step"] for row in read_metrics(log.path)] == [1, 2]
    assert list(tmp_path.iterdir()) == [log.path]
