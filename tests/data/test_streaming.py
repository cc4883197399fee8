from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.data import encode_file, read_documents, write_shards
from stemma.data.decoding import split_pieces, stream_pieces
from stemma.errors import DataError
from stemma.tokenizers import ByteTokenizer, WordTokenizer, gpt2, parallel

TEXT = "One fine day.\n\n  It rained;\tthen it did not.   Ünïcödé 你好 \n" * 40


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab|", max_size=5), max_size=8), st.sampled_from(["|", "ab", "aba", "||"]))
def test_streams_are_the_parts(pieces: list[str], separator: str) -> None:
    streamed = ["".join(part) for part in stream_pieces(pieces, separator)]
    assert (
        streamed == list(split_pieces(iter(pieces), separator)) == "".join(pieces).split(separator)
    )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        f"{TEXT}<|endoftext|>\n{TEXT}<|endoftext|>  \n <|endoftext|>last",
        "a" * 5000,
        " " * 3000 + "x",
        "\n\n" + TEXT,
    ],
)
def test_the_shards_are_those_of_the_documents(
    content: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "STREAMED", 100)
    monkeypatch.setattr(parallel, "LEAST_FOR_A_THREAD", 20)
    monkeypatch.setattr("stemma.data.decoding.CHUNK_BYTES", 64)
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(content.encode()))
    seen: list[tuple[int, int]] = []
    found = encode_file(
        path, gpt2(), tmp_path / "a", threads=threads, progress=lambda *done: seen.append(done)
    )
    expected = write_shards(read_documents(path), gpt2(), tmp_path / "b")
    assert np.array_equal(found[:], expected[:])
    assert found.document_offsets.tolist() == expected.document_offsets.tolist()
    assert found.byte_offsets.tolist() == expected.byte_offsets.tolist()
    assert seen == sorted(seen)
    found.verify()


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), WordTokenizer.train([TEXT])])
def test_any_tokenizer_will_do(tokenizer: ByteTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    found = encode_file(path, tokenizer, tmp_path / "a")
    assert np.array_equal(
        found[:], write_shards(read_documents(path), tokenizer, tmp_path / "b")[:]
    )


def test_bad_files_leave_nothing(tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n ")
    with pytest.raises(DataError, match="nothing but white space"):
        encode_file(blank, gpt2(), tmp_path / "out")
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"abc " * 1000 + b"\xff")
    with pytest.raises(DataError, match="byte 0xff at offset 4000"):
        encode_file(broken, gpt2(), tmp_path / "out")
    with pytest.raises(DataError, match="cannot be read"):
        encode_file(tmp_path / "missing.txt", gpt2(), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank.txt", "broken.txt"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson.xz", "a.parquet"])
def test_files_of_fields_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(DataError, match="documents in fields"):
        encode_file(path, ByteTokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
