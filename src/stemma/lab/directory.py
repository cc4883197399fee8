"""A run is a directory: its layout, and the record from which everything shown is computed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from stemma.config import to_toml
from stemma.errors import ConfigError, DataError
from stemma.lab.recipe import Recipe, load_recipe


class RunDirectory:
    """``runs/<name>/``: recipe, data, checkpoints, metrics, samples, figures, report and model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.toml"
        self.record_file = path / "results.json"
        self.stdin_text = path / "text.txt"
        self.tokenizer = path / "tokenizer"
        self.data = path / "data"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.figures = path / "figures"
        self.report = path / "report.html"
        self.model = path / "model"

    @classmethod
    @contextmanager
    def create(cls, path: Path, recipe: Recipe, *, overwrite: bool = False) -> Iterator[Self]:
        """Start an empty run, for as long as the context needs to find out that it can go on.

        If the context ends with an error, nothing has happened: the new directory is gone, and a
        run that was to be replaced is where it was.

        Raises:
            ConfigError: if ``path`` holds something already and ``overwrite`` is false, or if it
                holds something that is not a run.
        """
        run = cls(path)
        run._check_place(overwrite=overwrite)
        replaced = path.with_name(f".{path.name}.replaced")
        if replaced.exists():
            raise ConfigError(
                f"an --overwrite was killed and left the earlier run in {replaced}",
                where=str(path),
                cure=f"Remove {replaced}, or move it back to {path}; then try again.",
            )
        if path.exists():
            path.rename(replaced)
        try:
            path.mkdir(parents=True)
            run.write_recipe(recipe)
            yield run
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            if replaced.exists():
                replaced.rename(path)
            raise
        shutil.rmtree(replaced, ignore_errors=True)

    def _check_place(self, *, overwrite: bool) -> None:
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not self.recipe_file.exists():
            raise ConfigError(
                "exists and is not a run of stemma's",
                where=str(self.path),
                cure="Choose another directory with --output.",
            )
        if not overwrite:
            raise ConfigError(
                "this run exists already, and nothing is overwritten silently",
                where=str(self.path),
                cure=f"Continue it with `stemma resume {self.path}`, replace it with --overwrite, "
                "or choose another directory with --output.",
            )

    @classmethod
    def open(cls, path: Path) -> tuple[RunDirectory, Recipe]:
        """A run that exists, and its recipe.

        Raises:
            ConfigError: if ``path`` is no run.
        """
        run = cls(path)
        if not run.recipe_file.exists():
            raise ConfigError(
                "is not a run: it holds no recipe.toml",
                where=str(path),
                cure="Start one with `stemma quickstart` or `stemma train RECIPE`.",
            )
        return run, load_recipe(run.recipe_file)

    def write_recipe(self, recipe: Recipe) -> None:
        """Save the resolved recipe."""
        _write_atomically(self.recipe_file, to_toml(recipe))

    def read_record(self) -> dict[str, Any]:
        """Everything the run has found out so far."""
        if not self.record_file.exists():
            return {}
        try:
            record: dict[str, Any] = json.loads(self.record_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if not isinstance(record, dict):
            raise self._damaged("not a table")
        return record

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"damaged: {what}",
            where=str(self.record_file),
            cure="Remove the file; `stemma resume` measures again what it held.",
        )

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace the record, whole or not at all."""
        _write_atomically(self.record_file, json.dumps(record, indent=1, ensure_ascii=False))


class Record:
    """The run's findings, one entry per stage, saved as soon as a stage is done."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self.entries = directory.read_record()

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> Any:
        if name not in self.entries:
            raise self._directory._damaged(f"it holds no {name!r}")
        return self.entries[name]

    def save(self, name: str, entry: Any) -> None:
        """Add or replace one entry, on disk too."""
        self.entries[name] = entry
        self._directory.write_record(self.entries)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds that the block takes to the stage's time."""
        started = time.perf_counter()
        yield
        seconds = dict(self.entries.get("seconds", {}))
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
        self.save("seconds", seconds)


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            cure="Free some space or choose another place with --output; nothing else was lost.",
        ) from None
