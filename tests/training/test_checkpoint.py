from __future__ import annotations

import errno
import json
import os
import pickletools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import TinyAdam, TinyModel, same, tiny_trainer, weights
from torch import nn

from stemma.errors import CheckpointError
from stemma.training import manifest
from stemma.training.checkpoint import CheckpointStore
from stemma.training.state import collect_state, restore_state

TENSORS = {
    "model.weight": torch.arange(12.0).reshape(3, 4),
    "model.half": torch.tensor([1.5, -2.0]).bfloat16(),
    "optimizer.weight.step": torch.tensor(7.0),
    "optimizer.turned": torch.arange(6).reshape(2, 3).T,
    "optimizer.empty": torch.zeros(0, 3),
}
FACTS = {"tokens": 12345, "seconds": 0.1, "name": "täst", "nothing": None}


def filled(directory: Path, steps: list[int], keep: int = 9) -> CheckpointStore:
    store = CheckpointStore(directory, keep)
    for step in steps:
        store.save(step, {"w": torch.full((8,), float(step))}, {"at": step})
    return store


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "deep" / "checkpoints")
    path = store.save(100, TENSORS, FACTS)
    assert path.name == "step-000100"
    loaded = store.load(100)
    assert loaded.facts == FACTS
    assert (loaded.step, loaded.path) == (100, path)
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_the_files_are_safetensors_and_json_and_no_pickle(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(1, TENSORS, FACTS)
    assert names(path) == [
        "checkpoint.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]
    read = load_file(path / "model-00001-of-00001.safetensors")
    assert torch.equal(read["model.weight"], TENSORS["model.weight"])
    for file in path.iterdir():
        with pytest.raises(ValueError):
            list(pickletools.genops(file.read_bytes()))


def test_older_ones_go_when_a_new_one_is_there(tmp_path: Path) -> None:
    store = filled(tmp_path, [1, 2, 3, 4], keep=2)
    assert (store.steps(), store.latest()) == ([3, 4], 4)
    assert names(tmp_path) == ["step-000003", "step-000004"]


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "none")
    assert (store.steps(), store.latest()) == ([], None)
    with pytest.raises(CheckpointError, match="no checkpoint of step 3"):
        store.load(3)


def test_to_keep_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="keep = 0"):
        CheckpointStore(tmp_path, 0)


def test_a_save_replaces_the_same_step_and_removes_later_ones(tmp_path: Path) -> None:
    store = filled(tmp_path, [10, 20, 30])
    store.save(20, {"w": torch.zeros(2)}, {"again": True})
    assert store.steps() == [10, 20]
    assert store.load(20).facts == {"again": True}
    assert names(tmp_path) == ["step-000010", "step-000020"]


def test_debris_of_a_killed_save_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    store = filled(tmp_path, [10])
    shutil.copytree(tmp_path / "step-000010", tmp_path / "step-000020.partial-0a1b2c3d")
    assert store.steps() == [10]
    store.save(20, {"w": torch.zeros(2)}, {})
    assert names(tmp_path) == ["step-000010", "step-000020"]


@pytest.mark.parametrize(
    "file", ["model-00001-of-00001.safetensors", "model.safetensors.index.json", "checkpoint.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_found_and_the_last_good_one_named(
    tmp_path: Path, file: str, damage: str
) -> None:
    store = filled(tmp_path, [10, 20, 30])
    path = store.path(30) / file
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        store.load(30)
    message = str(caught.value)
    assert str(path) in message
    assert "checkpoint of step 20 is intact" in message
    assert f"Remove {store.path(30)}" in message
    assert ("bytes instead of" in message) == (damage == "cut" and file != "checkpoint.json")
    assert float(store.load(20).tensors["w"][0]) == 20.0


def test_every_single_byte_is_guarded(tmp_path: Path) -> None:
    store = filled(tmp_path, [1])
    for path in store.path(1).iterdir():
        content = path.read_bytes()
        for place in range(0, len(content), 17):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(CheckpointError):
                store.load(1)
        path.write_bytes(content)
    store.load(1)


def test_damaged_ones_are_passed_over_when_the_last_good_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, [10, 20, 30])
    for step in (20, 30):
        (store.path(step) / "checkpoint.json").write_text("{}")
    with pytest.raises(CheckpointError, match="checkpoint of step 10 is intact"):
        store.load(30)
    (store.path(10) / "checkpoint.json").write_text("{}")
    with pytest.raises(CheckpointError, match="No earlier checkpoint is intact"):
        store.load(30)


def test_the_advice_works(tmp_path: Path) -> None:
    undisturbed = tiny_trainer(tmp_path / "a", steps=12, checkpoint_every=3)
    undisturbed.fit()
    run = tmp_path / "b"
    tiny_trainer(run, steps=9, checkpoint_every=3).fit()
    damaged = run / "checkpoints" / "step-000009"
    (damaged / "model-00001-of-00001.safetensors").write_bytes(b"")
    trainer = tiny_trainer(run, steps=12)
    with pytest.raises(CheckpointError, match="step 6 is intact"):
        trainer.fit()
    asked = tiny_trainer(run, steps=12)
    assert asked.fit(from_step=6).resumed_from == 6
    assert same(weights(asked), weights(undisturbed))
    tiny_trainer(tmp_path / "c", steps=9, checkpoint_every=3).fit()
    shutil.rmtree(tmp_path / "c" / "checkpoints" / "step-000009")
    removed = tiny_trainer(tmp_path / "c", steps=12)
    assert removed.fit().resumed_from == 6
    assert same(weights(removed), weights(undisturbed))


def test_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_VERSION", 2)
    store = filled(tmp_path, [1])
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="version 2, and this stemma reads version 1"):
        store.load(1)


# A save waits for the disk five times before the new checkpoint is put in place.
@pytest.mark.parametrize("place", range(5))
def test_a_full_disk_at_any_write_leaves_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    store = filled(tmp_path, [10, 20])
    reached = 0
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal reached
        reached += 1
        if reached == place + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError) as caught:
        store.save(30, TENSORS, FACTS)
    monkeypatch.undo()
    message = str(caught.value)
    assert "the disk is full" in message
    assert "checkpoint of step 20 is good" in message
    assert names(tmp_path) == ["step-000010", "step-000020"]
    assert float(store.load(20).tensors["w"][0]) == 20.0


def test_a_full_disk_without_any_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="no checkpoint was saved before"):
        CheckpointStore(tmp_path).save(1, TENSORS, FACTS)
    assert names(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs (root on Linux)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_really_is_full(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints", keep=2)
    store.save(1, {"w": torch.ones(10_000)}, {})
    for size in (60_000, 100_000, 1_000_000):
        with pytest.raises(CheckpointError, match="disk is full; the checkpoint of step 1 is good"):
            store.save(2, {"w": torch.ones(size)}, {})
        assert names(store.directory) == ["step-000001"]
    store.save(2, {"w": torch.ones(10_000)}, {})
    assert store.load(2).tensors["w"].sum() == 10_000


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        CheckpointStore(tmp_path / "file").save(1, TENSORS, FACTS)


def trained(width: int = 16) -> tuple[TinyModel, TinyAdam]:
    model = TinyModel(width=width)
    optimizer = TinyAdam(model)
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_state_goes_round(tmp_path: Path) -> None:
    model, optimizer = trained()
    state = collect_state(model, optimizer)
    assert {"model.embed.weight", "optimizer.embed.weight.exp_avg"} <= state.keys()
    state = {name: tensor.detach().clone() for name, tensor in state.items()}
    other = TinyModel(seed=8)
    fresh = TinyAdam(other)
    restore_state(other, fresh, state, where="here")
    assert same(collect_state(other, fresh), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.head.weight"), "has no 'head.weight'"),
        (lambda s: s.update({"model.extra": torch.zeros(1)}), "has 'extra'"),
        (
            lambda s: s.update({"model.head.weight": torch.zeros(19, 8)}),
            r"'head.weight' is \(19, 8\) float32, and \(19, 16\) float32 in the model",
        ),
        (lambda s: s.update({"model.head.weight": s["model.head.weight"].half()}), "float16"),
    ],
)
def test_a_state_of_another_model_is_refused_by_name(change: Any, message: str) -> None:
    model, optimizer = trained()
    state = dict(collect_state(model, optimizer))
    change(state)
    other = TinyModel(seed=8)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        restore_state(other, TinyAdam(other), state, where="checkpoints/step-000010")
    assert "checkpoints/step-000010" in str(caught.value)
    assert same(other.state_dict(), before)


def test_tied_parameters_are_saved_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self, fill: float) -> None:
            super().__init__()
            self.embed = nn.Embedding(4, 3)
            self.head = nn.Linear(3, 4, bias=False)
            self.head.weight = self.embed.weight
            nn.init.constant_(self.head.weight, fill)

    model = Tied(2.0)
    state = collect_state(model, TinyAdam(model))
    assert [name for name in state if name.startswith("model.")] == ["model.embed.weight"]
    store = CheckpointStore(tmp_path)
    store.save(1, state, {})
    other = Tied(0.0)
    restore_state(other, TinyAdam(other), store.load(1).tensors, where="here")
    assert torch.equal(other.head.weight, torch.full((4, 3), 2.0))


def test_the_manifest_tells_what_it_holds(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(3, TENSORS, FACTS)
    held = json.loads((path / "checkpoint.json").read_text())
    assert (held["step"], held["facts"]) == (3, FACTS)
    for name, entry in held["files"].items():
        assert entry["bytes"] == (path / name).stat().st_size
