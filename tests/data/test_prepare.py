from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from stemma.data.prepare import open_prepared, prepare
from stemma.data.sources import Document
from stemma.data.split import train_and_held_out
from stemma.errors import DataError

DOCUMENTS = [Document(f"Document number {i}. " * (10 + i)) for i in range(40)]


def test_both_sides_hold_what_the_split_says(tmp_path: Path, tokenizer: Any) -> None:
    told: list[tuple[int, int]] = []
    directory = tmp_path / "deep" / "corpus"
    prepared = prepare(
        iter(DOCUMENTS),
        tokenizer,
        directory,
        held_out_fraction=0.2,
        seed=3,
        shard_tokens=1000,
        progress=lambda documents, n_bytes: told.append((documents, n_bytes)),
    )
    expected = train_and_held_out(DOCUMENTS, 0.2, 3)
    for shards, documents in zip(prepared, expected, strict=True):
        texts = bytes(shards[:].clip(0, 255).astype("u1")).decode("latin-1").split("\xff")
        assert texts[:-1] == [document.text for document in documents]
        assert shards.n_bytes == sum(document.n_bytes for document in documents)
        shards.verify()
    total = prepared.train.n_bytes + prepared.held_out.n_bytes
    assert told[-1] == (40, total) == (40, sum(document.n_bytes for document in DOCUMENTS))
    assert sorted(path.name for path in directory.iterdir()) == ["heldout", "train"]
    assert [path.name for path in directory.parent.iterdir()] == ["corpus"]
    assert open_prepared(directory).train[:].tolist() == prepared.train[:].tolist()


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, tokenizer: Any) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        prepare(DOCUMENTS, tokenizer, folder, seed=1)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert one == two


def test_no_window_of_ids_is_on_both_sides_of_a_single_text(tmp_path: Path, tokenizer: Any) -> None:
    text = "".join(f"line {i}\n" for i in range(500))
    train, held_out = prepare([Document(text)], tokenizer, tmp_path / "corpus")
    heads = bytes(train[: len(train) - 1].astype("u1")).decode()
    tails = bytes(held_out[: len(held_out) - 1].astype("u1")).decode()
    assert heads + tails == text
    assert train.n_documents == held_out.n_documents == 1


def test_a_full_disk_is_told_under_the_name_that_was_asked_for(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full") as caught:
        prepare(DOCUMENTS, tokenizer, tmp_path / "corpus")
    assert caught.value.where == str(tmp_path / "corpus" / "heldout")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="4 bytes of text are too few"):
        prepare([Document("tiny")], tokenizer, tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "corpus").mkdir()
    with pytest.raises(DataError, match="corpus: exists already"):
        prepare(DOCUMENTS, tokenizer, tmp_path / "corpus")
