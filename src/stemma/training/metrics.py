"""``metrics.jsonl``: one JSON object a line, in step with the checkpoints."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from stemma.errors import TrainingError


class MetricsLog:
    """A file of metrics that only grows, except when a run goes back to a checkpoint.

    Args:
        path: the file; it and its folder are made on the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file: TextIOWrapper | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line, so that a reader sees it at once. What is not finite becomes null.

        Raises:
            TrainingError: if the file cannot be written, as on a full disk.
        """
        line = json.dumps({name: _finite(value) for name, value in row.items()}, allow_nan=False)
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._abandon()
            raise _cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Bring what was written to the disk itself, before a checkpoint counts on it."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise _cannot_write(self.path, error) from error

    def rewind(self, step: int) -> None:
        """Drop the lines beyond ``step`` and a half-written last one, all at once or not at all.

        A crash leaves lines that are younger than the last checkpoint; the resumed run writes them
        anew.

        Raises:
            TrainingError: if the file is damaged or cannot be written.
        """
        self.close()
        if not self.path.exists():
            return
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in kept)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _cannot_write(self.path, error) from error

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _abandon(self) -> None:
        """Close a file that cannot be written; closing tries to write what is pending once more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, in order; a half-written last line is not one.

    Raises:
        TrainingError: if there is no such file, or a line before the last is not a JSON object
            with a step.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        raise TrainingError(
            "no metrics here", where=str(path), cure="They are written by a run's training."
        ) from None
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            int(row["step"])
        except (ValueError, TypeError, KeyError):
            raise TrainingError(
                f"line {number} is not a JSON object with a step",
                where=str(path),
                cure="Remove that line; the other lines do not depend on it.",
            ) from None
        rows.append(row)
    return rows


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cannot_write(path: Path, error: OSError) -> TrainingError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return TrainingError(
        "the disk is full" if full else f"cannot be written: {error.strerror}",
        where=str(path),
        cure="Free some space and continue the run; it goes on from its last checkpoint.",
    )
