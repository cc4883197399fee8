"""Training states on disk: written beside themselves, renamed into place, verified when read.

A checkpoint is a directory ``step-000100/`` with the tensors as safetensors, written by
`torch.distributed.checkpoint` in Hugging Face's layout, and ``checkpoint.json``, which holds the
facts and the sha256 of every file. Nothing in it is a pickle, and no pickle is ever read.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stemma.errors import CheckpointError
from stemma.training.manifest import check_manifest, is_disk_full, sync_directory, write_manifest
from stemma.training.tensors import TensorFilesError, read_tensors, write_tensors

_NAME = re.compile(r"step-(\d{6,})")
_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training state as it was saved.

    Args:
        step: how many updates it has behind it.
        tensors: by name, on the CPU.
        facts: everything that is not a tensor.
        path: where it was read from.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    path: Path


class CheckpointStore:
    """The checkpoints of one run.

    A kill at any moment leaves every finished checkpoint as it was: a new one is written under
    another name, brought to the disk, and renamed; older ones go only after that.

    Args:
        directory: made when the first checkpoint is saved.
        keep: how many of the newest to keep.

    Raises:
        CheckpointError: if ``keep`` is not positive.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        if keep < 1:
            raise CheckpointError(f"keep = {keep}: at least one checkpoint has to be kept")
        self.directory = Path(directory)
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        if not self.directory.is_dir():
            return []
        names = (_NAME.fullmatch(entry.name) for entry in self.directory.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def latest(self) -> int | None:
        """The newest checkpoint's step; None if there is none."""
        return max(self.steps(), default=None)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.directory / f"step-{step:06d}"

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove those it makes superfluous.

        Besides the oldest, these are any of later steps: a run that went back has left them.

        Raises:
            CheckpointError: if it cannot be written, as on a full disk; nothing is left of it, and
                the message names the checkpoint that is still good.
        """
        final = self.path(step)
        partial = self._beside(final)
        try:
            self._remove_partials()
            partial.mkdir(parents=True)
            write_tensors(partial, tensors)
            write_manifest(partial, step, facts)
            self._put_in_place(partial, final)
        except (OSError, TensorFilesError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise self._cannot_write(final, error) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._prune(step)
        return final

    def load(self, step: int) -> Checkpoint:
        """Verify and read the checkpoint of a step.

        Raises:
            CheckpointError: if there is none, or it is damaged; the message names the file and the
                newest earlier checkpoint that is intact.
        """
        path = self.path(step)
        if not path.is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(
                f"there is no checkpoint of step {step}",
                where=str(self.directory),
                cure=f"Steps with a checkpoint: {there}.",
            )
        try:
            manifest = check_manifest(path)
            tensors = read_tensors(path)
        except (OSError, CheckpointError, TensorFilesError) as error:
            raise self._damaged(step, error) from error
        return Checkpoint(step, tensors, manifest["facts"], path)

    def _beside(self, final: Path) -> Path:
        return self.directory / f"{final.name}{_PARTIAL}{secrets.token_hex(4)}"

    def _remove_partials(self) -> None:
        if self.directory.is_dir():
            for entry in self.directory.iterdir():
                if _PARTIAL in entry.name and entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)

    def _put_in_place(self, partial: Path, final: Path) -> None:
        # A directory can be renamed onto an empty one only. One is here already when the run went
        # back behind this step: because this very checkpoint is damaged, or on request.
        superseded = self._beside(final) if final.exists() else None
        if superseded is not None:
            final.rename(superseded)
        partial.rename(final)
        sync_directory(self.directory)
        if superseded is not None:
            shutil.rmtree(superseded, ignore_errors=True)

    def _prune(self, newest: int) -> None:
        steps = self.steps()
        kept = [step for step in steps if step <= newest][-self.keep :]
        for step in set(steps) - set(kept):
            # Renamed first, so that a kill half way leaves no checkpoint with a part missing.
            leaving = self._beside(self.path(step))
            self.path(step).rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)

    def _newest_intact(self, before: int | None = None) -> int | None:
        for step in reversed(self.steps()):
            if before is None or step < before:
                try:
                    check_manifest(self.path(step))
                except (OSError, CheckpointError):
                    continue
                return step
        return None

    def _cannot_write(self, final: Path, error: BaseException) -> CheckpointError:
        full = is_disk_full(error)
        good = self._newest_intact()
        still = (
            "no checkpoint was saved before"
            if good is None
            else f"the checkpoint of step {good} is good"
        )
        return CheckpointError(
            f"the disk is full; {still}" if full else f"cannot be written: {error}; {still}",
            where=str(final),
            cure=("Free some space" if full else "Remove the cause")
            + " and continue the run; it goes on from "
            + ("the start." if good is None else f"step {good}."),
        )

    def _damaged(self, step: int, error: BaseException) -> CheckpointError:
        path = self.path(step)
        good = self._newest_intact(before=step)
        where, what = str(path), f"damaged: {error}"
        if isinstance(error, CheckpointError):
            where, what = error.where or where, error.what
        if good is None:
            return CheckpointError(
                what, where=where, cure="No earlier checkpoint is intact: start the run anew."
            )
        return CheckpointError(
            f"{what}; the checkpoint of step {good} is intact",
            where=where,
            cure=f"Remove {path} and continue the run: it goes on from step {good} "
            f"(in Python, also fit(from_step={good})).",
        )
