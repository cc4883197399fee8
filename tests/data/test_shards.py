from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.data import shard_writer
from stemma.data.shard_writer import manifest_digest
from stemma.data.shards import TokenShards, write_shards
from stemma.data.sources import Document
from stemma.data.tokens import TokenArray, TokenSource
from stemma.errors import DataError

DOCUMENTS = [Document("abc"), Document("Ωω"), Document("last one")]
IDS = [*b"abc", 256, *"Ωω".encode(), 256, *b"last one", 256]


@pytest.fixture
def shards(tmp_path: Path, tokenizer: Any) -> TokenShards:
    return write_shards(DOCUMENTS, tokenizer, tmp_path / "shards", shard_tokens=5)


def test_each_document_is_followed_by_end_of_text(shards: TokenShards) -> None:
    assert shards[:].tolist() == IDS
    assert len(shards) == 18
    assert shards.n_documents == 3
    assert shards.document_offsets.tolist() == [0, 4, 9, 18]
    assert shards.byte_offsets.tolist() == [0, 3, 7, 15]
    assert shards.n_bytes == 15  # the three end-of-text tokens have no bytes


def test_the_files_are_plain_little_endian_numbers(shards: TokenShards) -> None:
    files = sorted(path.name for path in shards.directory.iterdir())
    numbers = [f"tokens-0000{i}.bin" for i in range(4)]
    assert files == ["documents.bin", "manifest.json", *numbers]
    data = b"".join((shards.directory / name).read_bytes() for name in numbers)
    assert data == b"".join(token.to_bytes(2, "little") for token in IDS)


def test_memory_and_disk_hold_the_same(shards: TokenShards, tokenizer: Any) -> None:
    array = TokenArray.encode(DOCUMENTS, tokenizer)
    sources: list[TokenSource] = [array, shards]
    assert all(isinstance(source, TokenSource) for source in sources)
    assert array[:].tolist() == shards[:].tolist()
    assert array.document_offsets.tolist() == shards.document_offsets.tolist()
    assert array.byte_offsets.tolist() == shards.byte_offsets.tolist()
    assert array.n_bytes == shards.n_bytes


@settings(max_examples=40)
@given(st.data())
def test_slices_and_windows_across_the_edges_of_shards(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("shards") / "s"

    class Numbers:
        vocab_size, end_of_text, fingerprint = 70_000, None, "n"

        def encode(self, text: str) -> np.ndarray[Any, np.dtype[np.int32]]:
            return np.array(text.split(), dtype=np.int32)

    n = data.draw(st.integers(1, 40))
    text = Document(" ".join(str(69_999 - i) for i in range(n)))
    source = write_shards([text], Numbers(), directory, shard_tokens=data.draw(st.integers(1, 12)))
    expected = 69_999 - np.arange(n)
    ends = st.none() | st.integers(-50, 50)
    for _ in range(5):
        part = slice(data.draw(ends), data.draw(ends))
        assert source[part].tolist() == expected[part].tolist()
    length = data.draw(st.integers(1, n))
    starts = np.array(data.draw(st.lists(st.integers(0, n - length), max_size=8)), dtype=np.int64)
    rows = source.gather(starts, length)
    assert rows.dtype == np.int64
    assert rows.tolist() == [expected[start : start + length].tolist() for start in starts]
    assert TokenArray(expected).gather(starts, length).tolist() == rows.tolist()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "<u2"), (65_537, "<u4")])
def test_ids_take_two_bytes_as_long_as_they_fit(
    tmp_path: Path, tokenizer: Any, vocab_size: int, dtype: str
) -> None:
    tokenizer.vocab_size = vocab_size
    tokenizer.end_of_text = vocab_size - 1
    shards = write_shards(DOCUMENTS, tokenizer, tmp_path / "s")
    assert shards.manifest["dtype"] == dtype
    assert shards[3:4].tolist() == [vocab_size - 1]
    assert shards.vocab_size == vocab_size


def test_windows_outside_and_steps_are_refused(shards: TokenShards) -> None:
    for source in (shards, TokenArray(IDS)):
        for starts in ([-1], [0, 14]):
            with pytest.raises(DataError, match="leave the corpus of 18 tokens"):
                source.gather(np.array(starts), 5)
        with pytest.raises(DataError, match="step of 2"):
            source[::2]


def test_verify_names_the_damaged_file(shards: TokenShards) -> None:
    shards.verify()
    for name in ("tokens-00002.bin", "documents.bin"):
        path = shards.directory / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        reopened = TokenShards(shards.directory)
        with pytest.raises(DataError, match=f"{name}: damaged: its sha256"):
            reopened.verify()
        path.write_bytes(whole)
    shards.verify()


def test_opening_names_what_is_missing_cut_or_not_ours(shards: TokenShards, tmp_path: Path) -> None:
    folder = shards.directory
    with pytest.raises(DataError, match="elsewhere: holds no token shards"):
        TokenShards(tmp_path / "elsewhere")
    for name in ("tokens-00003.bin", "documents.bin"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1])
        with pytest.raises(DataError, match=rf"{name}: damaged: {len(whole) - 1} bytes instead of"):
            TokenShards(folder)
        (folder / name).unlink()
        with pytest.raises(DataError, match=f"{name}: missing"):
            TokenShards(folder)
        (folder / name).write_bytes(whole)
    TokenShards(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_bytes": 14}, "damaged: its sha256 is not its own"),
        ({"version": 2}, "format version 2, but this stemma reads 1"),
        ({"format": "other"}, "is not a manifest of token shards"),
    ],
)
def test_a_changed_manifest_is_refused(
    shards: TokenShards, change: dict[str, Any], message: str
) -> None:
    path = shards.directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        TokenShards(shards.directory)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged: not JSON"):
        TokenShards(shards.directory)


def test_the_manifest_holds_what_a_reader_needs(shards: TokenShards) -> None:
    manifest = json.loads((shards.directory / "manifest.json").read_text())
    assert manifest["tokenizer"] == shards.fingerprint == "b" * 64
    assert (manifest["n_tokens"], manifest["n_bytes"], manifest["end_of_text"]) == (18, 15, 256)
    assert manifest["sha256"] == manifest_digest(manifest)


def test_ids_of_another_tokenizer_are_refused(shards: TokenShards) -> None:
    shards.check_tokenizer("b" * 64)
    with pytest.raises(DataError, match=r"another tokenizer \(bbbbbbbbbbbb, not cccccccccccc\)"):
        shards.check_tokenizer("c" * 64)


# Writing


def test_nothing_is_overwritten(shards: TokenShards, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists already, and nothing is overwritten"):
        write_shards(DOCUMENTS, tokenizer, shards.directory)
    assert shards[:].tolist() == IDS
    assert os.listdir(tmp_path) == ["shards"]  # noqa: PTH208


def left_behind(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def test_a_failing_source_leaves_nothing(tokenizer: Any, tmp_path: Path) -> None:
    def failing() -> Iterator[Document]:
        yield DOCUMENTS[0]
        assert left_behind(tmp_path)  # it is being written, under another name
        assert not (tmp_path / "s").exists()
        raise DataError("line 2: not valid JSON")

    with pytest.raises(DataError, match="line 2"):
        write_shards(failing(), tokenizer, tmp_path / "s", shard_tokens=2)
    assert left_behind(tmp_path) == []
    with pytest.raises(DataError, match="no documents to write"):
        write_shards([], tokenizer, tmp_path / "s")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("method", ["write_bytes", "close"])
def test_a_full_disk_leaves_nothing(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    original = getattr(shard_writer._HashedFile, method)
    calls = iter(range(100))

    def full(self: Any, *arguments: Any) -> Any:
        if next(calls) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, *arguments)

    monkeypatch.setattr(shard_writer._HashedFile, method, full)
    with pytest.raises(DataError, match=r"s: the disk is full\nFree space"):
        write_shards(DOCUMENTS, tokenizer, tmp_path / "s", shard_tokens=3)
    assert left_behind(tmp_path) == []


def test_a_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """On a file system of 64 KiB of its own, in a mount namespace."""
    script = """
import pathlib, sys
import numpy as np
from stemma.data.shards import write_shards
from stemma.data.sources import Document
from stemma.errors import DataError

class Bytes:
    vocab_size, end_of_text, fingerprint = 257, 256, "b"
    def encode(self, text):
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)

disk = pathlib.Path(sys.argv[1])
try:
    write_shards([Document("x" * 10_000)] * 20, Bytes(), disk / "s")
except DataError as error:
    print(error.what, [path.name for path in disk.rglob("*")])
"""
    mount = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux) to mount a small file system")
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path)]
    allowed = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"needs the right to mount a small file system: {allowed.stderr.strip()}")
    python = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run([*command, *python], capture_output=True, text=True, check=True)
    assert result.stdout == "the disk is full []\n", result.stderr


def test_a_directory_that_cannot_be_written(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        write_shards(DOCUMENTS, tokenizer, tmp_path / "file" / "s")


def test_ids_outside_the_vocabulary_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.vocab_size = 200
    with pytest.raises(DataError, match="outside its vocabulary of 200"):
        write_shards([Document("abc", "here")], tokenizer, tmp_path / "s")
    assert left_behind(tmp_path) == []


# Memory


def test_bad_arrays() -> None:
    for bad in ([], [[1, 2]], [0.5]):
        with pytest.raises(DataError, match="non-empty row of integers"):
            TokenArray(np.array(bad))
    with pytest.raises(DataError, match="token id -1 is negative"):
        TokenArray([3, -1])
    for offsets in ([0, 2], [1, 3], [0, 2, 1, 3], [0]):
        with pytest.raises(DataError, match="document offsets do not rise from 0 to 3"):
            TokenArray([1, 2, 3], offsets)
    with pytest.raises(DataError, match="byte offsets"):
        TokenArray([1, 2, 3], [0, 3], [0, 2, 3])
    with pytest.raises(DataError, match="no documents to encode"):
        TokenArray.encode([], None)  # type: ignore[arg-type]
