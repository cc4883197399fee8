"""Trains the tiny model in a process that is killed again and again.

This process only imports torch, forks and kills; each attempt runs in a fork of its own, which
spares it the import. ``random`` kills (SIGKILL) at random moments, ``at`` when the run reaches a
certain place in the writing of a checkpoint; then the run is left alone until it is done. The last
line printed tells how often it was killed, and how often in the middle of a write.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_training
import torch
import torch.distributed.checkpoint  # here, and not again in every fork
from safetensors.torch import save_file

STEPS = 60
PLACES = ("write_tensors", "write_manifest", "sync_directory", "_prune")


def train(directory: Path) -> None:
    # More tensors than needed, so that writing takes about as long as training.
    model = tiny_training.TinyModel(dropout=0.2, width=64)
    trainer = tiny_training.tiny_trainer(
        directory, model=model, steps=STEPS, checkpoint_every=1, keep_checkpoints=2
    )
    result = trainer.fit()
    save_file(trainer.model.state_dict(), directory / "weights.safetensors")
    (directory / "result.json").write_text(json.dumps([result.step, result.tokens]))


def attempt(directory: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start an attempt; the number of its process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            before()
            train(directory)
            status = 0
        finally:
            os._exit(status)
    return child


def latest(directory: Path) -> int:
    found = (directory / "checkpoints").glob("step-??????")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def writing(directory: Path) -> bool:
    return any((directory / "checkpoints").glob("*.partial-*"))


def kill_at_random(directory: Path, kills: int, seed: int) -> tuple[int, int]:
    rng = random.Random(seed)
    killed = in_a_write = 0
    for target in sorted(rng.sample(range(1, STEPS - 5), kills)):
        child = attempt(directory)
        while latest(directory) < target:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        in_a_write += writing(directory)
    return killed, in_a_write


def kill_at_places(directory: Path) -> tuple[int, int]:
    """Once before and once after each place, in the third save of an attempt."""
    from stemma.training import checkpoint

    def bomb(place: str, *, after: bool) -> None:
        owner: Any = checkpoint.CheckpointStore if place == "_prune" else checkpoint
        real, calls = getattr(owner, place), iter(range(10**6))

        def wrapped(*args: Any) -> Any:
            armed = next(calls) == 2
            if armed and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            value = real(*args)
            if armed:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        setattr(owner, place, wrapped)

    killed = in_a_write = 0
    for place in PLACES:
        for after in (False, True):
            child = attempt(directory, lambda: bomb(place, after=after))  # noqa: B023 - called at once
            _, status = os.waitpid(child, 0)
            killed += os.WIFSIGNALED(status)
            in_a_write += writing(directory)
    return killed, in_a_write


def main(directory: Path, how: str, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    counts = (0, 0)
    if how == "random" and kills:
        counts = kill_at_random(directory, kills, seed)
    elif how == "at":
        counts = kill_at_places(directory)
    _, status = os.waitpid(attempt(directory), 0)
    if status:
        raise SystemExit("the last attempt failed")
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
