"""A run that was stopped, at any moment and however often, ends where the undisturbed one ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    CONTEXT_LENGTH,
    N_WINDOWS,
    VOCAB_SIZE,
    at_step,
    same,
    timeless,
    tiny_trainer,
    transformer,
    weights,
)
from torch import Tensor

from stemma.data import Batches, PackedDocuments, TokenArray
from stemma.errors import CheckpointError
from stemma.training import AdamWConfig, CheckpointStore, MuonConfig, Trainer


def killed_run(directory: Path, how: str, kills: int, seed: int) -> tuple[int, int]:
    worker = Path(__file__).with_name("resume_worker.py")
    finished = subprocess.run(
        [sys.executable, str(worker), str(directory), how, str(kills), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    killed, in_a_write = json.loads(finished.stdout.splitlines()[-1])
    return killed, in_a_write


def final(directory: Path) -> dict[str, Tensor]:
    read: dict[str, Tensor] = load_file(directory / "weights.safetensors")
    return read


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    killed_run(directory, "random", 0, 0)
    return directory


def assert_same_as(undisturbed: Path, directory: Path) -> None:
    assert same(final(directory), final(undisturbed))
    assert timeless(directory / "metrics.jsonl") == timeless(undisturbed / "metrics.jsonl")
    assert (directory / "result.json").read_text() == (undisturbed / "result.json").read_text()
    saved = [
        CheckpointStore(path / "checkpoints").load(60).tensors for path in (directory, undisturbed)
    ]
    assert same(saved[0], saved[1])
    names = sorted(entry.name for entry in (directory / "checkpoints").iterdir())
    assert names == ["step-000059", "step-000060"]


def test_kills_at_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    killed, _ = killed_run(tmp_path / "run", "random", 3, 1)
    assert killed == 3
    assert_same_as(undisturbed, tmp_path / "run")


def test_kills_at_every_place_of_a_checkpoint_write(undisturbed: Path, tmp_path: Path) -> None:
    killed, in_a_write = killed_run(tmp_path / "run", "at", 0, 0)
    assert killed == 8
    assert in_a_write >= 4
    assert_same_as(undisturbed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_ten_kills_at_random_moments(undisturbed: Path, tmp_path: Path, seed: int) -> None:
    killed, in_a_write = killed_run(tmp_path / "run", "random", 10, 100 + seed)
    assert killed == 10
    assert in_a_write >= 1
    assert_same_as(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("stops", [[7], [7, 8], [9, 10, 11, 29], [1, 2, 3, 4, 5]])
def test_resumed_once_twice_and_again(tmp_path: Path, stops: list[int]) -> None:
    """An epoch is 9.25 steps: these stops lie within epochs, at their edges and in a row."""
    steps = 30
    whole = tiny_trainer(tmp_path / "whole", steps=steps)
    assert int(whole.batches.steps_per_epoch * 4) == N_WINDOWS
    whole.fit()
    for stop in stops:

        def interrupt(trainer_stop: int = stop) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            # The step after the checkpoint is lost, as in a kill.
            tiny_trainer(
                tmp_path / "cut",
                steps=steps,
                checkpoint_every=stop,
                on_step=at_step(stop + 1, interrupt),
            ).fit()
    last = tiny_trainer(tmp_path / "cut", steps=steps)
    assert last.fit().resumed_from == stops[-1]
    assert same(weights(last), weights(whole))
    assert timeless(tmp_path / "cut" / "metrics.jsonl") == timeless(
        tmp_path / "whole" / "metrics.jsonl"
    )


@pytest.mark.parametrize("optimizer", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_real_model_and_optimizer_resume_to_the_bit(
    tmp_path: Path, optimizer: AdamWConfig | MuonConfig, precision: str
) -> None:
    def trainer(directory: Path, steps: int) -> Trainer:
        rng = np.random.default_rng(2)
        tokens = TokenArray(
            rng.integers(0, VOCAB_SIZE, 400).astype(np.uint16),
            document_offsets=np.array([0, 30, 35, 90, 200, 207, 330, 400]),
        )
        model = transformer("modern", dropout=0.2)
        return tiny_trainer(
            directory,
            steps=steps,
            precision=precision,
            micro_batch_size=3,
            activation_checkpointing=True,
            model=model,
            optimizer=optimizer.build(model),
            batches=Batches(PackedDocuments(tokens, CONTEXT_LENGTH), 4, seed=1),
        )

    whole = trainer(tmp_path / "whole", 25)
    assert whole.batches.batch(0).document_ids is not None
    whole.fit()
    for steps in (6, 7, 25):
        cut = trainer(tmp_path / "cut", steps)
        cut.fit()
    assert same(weights(cut), weights(whole))
    states = [one.optimizer.named_state(one.model) for one in (cut, whole)]
    assert same(states[0], states[1])


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    def trainer(optimizer: AdamWConfig | MuonConfig) -> Trainer:
        model = transformer("modern")
        return tiny_trainer(tmp_path, steps=2, model=model, optimizer=optimizer.build(model))

    trainer(MuonConfig()).fit()
    with pytest.raises(
        CheckpointError, match="of another model or recipe: the optimizer's"
    ) as caught:
        trainer(AdamWConfig()).fit()
    assert "step-000002" in str(caught.value)


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    first = tiny_trainer(tmp_path, steps=5)
    done = first.fit()
    lines = (tmp_path / "metrics.jsonl").read_text()
    path = CheckpointStore(tmp_path / "checkpoints").path(5) / "checkpoint.json"
    written = path.stat().st_mtime_ns
    second = tiny_trainer(tmp_path, steps=5)
    again = second.fit()
    assert (again.step, again.loss, again.seconds) == (5, done.loss, done.seconds)
    assert again.resumed_from == 5
    assert same(weights(second), weights(first))
    assert (tmp_path / "metrics.jsonl").read_text() == lines
    assert path.stat().st_mtime_ns == written


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    whole = tiny_trainer(steps=20)
    whole.fit()
    tiny_trainer(tmp_path, steps=8).fit()
    longer = tiny_trainer(tmp_path, steps=20)
    assert longer.fit().resumed_from == 8
    assert same(weights(longer), weights(whole))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path, on_step=at_step(4, die)).fit()
    again = tiny_trainer(tmp_path)
    assert again.fit().resumed_from is None
    assert [row["step"] for row in timeless(tmp_path / "metrics.jsonl")] == list(range(1, 31))
    whole = tiny_trainer()
    whole.fit()
    assert same(weights(again), weights(whole))


def test_these_tests_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout seeded by the attempt and not by the step, the resumed run is another one."""
    whole = tiny_trainer(tmp_path / "whole", steps=10)
    whole.fit()
    tiny_trainer(tmp_path / "cut", steps=5).fit()
    monkeypatch.setattr("stemma.training.loop.seed_dropout", lambda *_: None)
    torch.manual_seed(0)
    resumed = tiny_trainer(tmp_path / "cut", steps=10)
    resumed.fit()
    assert not same(weights(resumed), weights(whole))
