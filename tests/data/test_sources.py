from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.data import decoding
from stemma.data.decoding import split_pieces
from stemma.data.sources import Document, read_documents
from stemma.errors import DataError


def texts(source: object, **options: str) -> list[str]:
    return [document.text for document in read_documents(source, **options)]  # type: ignore[arg-type]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Text files


def test_a_text_file_without_a_separator_is_one_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\ntwo\n")
    assert list(read_documents(path)) == [Document("one\ntwo\n", f"{path}#1")]


def test_the_separator_divides_wherever_it_stands_and_takes_its_line_end(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.txt", b"\none\n<|endoftext|>\ntwo<|endoftext|>three<|endoftext|>\n\n"
    )
    assert texts(path) == ["\none\n", "two", "three"]
    assert [document.origin[-2:] for document in read_documents(path)] == ["#1", "#2", "#3"]


def test_line_ends_are_normalised_and_the_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbf")
    assert texts(path) == ["one\ntwo\nthree\n\ufeff"]


@given(
    st.lists(st.text(st.sampled_from("ab<|>endoftx"), max_size=20), min_size=1, max_size=5),
    st.integers(1, 7),
)
def test_splitting_a_stream_equals_splitting_the_whole(parts: list[str], size: int) -> None:
    whole = "<|end|>".join(parts)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert list(split_pieces(iter(pieces), "<|end|>")) == whole.split("<|end|>")


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(1, 5)
)
def test_decoding_in_chunks_equals_pythons_text_mode(text: str, chunk_bytes: int) -> None:
    data = text.encode()
    expected = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", max(chunk_bytes, 3))  # a UTF-16 mark needs two bytes
        patch.setattr(decoding, "_open", lambda path: io.BytesIO(data))
        assert "".join(decoding.text_pieces(Path("any"))) == expected


def test_memory_is_bounded_by_the_longest_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 64)
    path = write(tmp_path / "big.txt", b"0123456789<|endoftext|>" * 1000 + b"\xff")
    stream = read_documents(path)
    assert [next(stream).text for _ in range(900)] == ["0123456789"] * 900
    with pytest.raises(DataError, match="0xff at offset 23000"):
        list(stream)  # the damage at the end was not read before


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)]
)
class TestCompressed:
    def test_is_read_as_what_it_holds(
        self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
    ) -> None:
        text = write(tmp_path / f"a.txt.{suffix}", compress(b"hello"))
        jsonl = write(tmp_path / f"b.jsonl.{suffix}", compress(b'{"text": "line"}\n'))
        assert texts([text, jsonl]) == ["hello", "line"]

    def test_damage_is_named(
        self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
    ) -> None:
        whole = compress(b"hello" * 1000)
        for content in (whole[:-9], b"not compressed at all"):
            path = write(tmp_path / f"a.txt.{suffix}", content)
            with pytest.raises(DataError, match=r"a\.txt\.\w+: the compressed file is damaged"):
                texts(path)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("naïve".encode())))
    assert list(read_documents("-")) == [Document("naïve", "standard input#1")]
    with pytest.raises(DataError, match="standard input: holds no text"):
        texts("-")


# Folders


def test_a_folder_is_read_recursively_in_the_order_of_its_paths(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", b"second")
    write(tmp_path / "a" / "z.md", b"first")
    write(tmp_path / "c" / "lines.jsonl", b'{"text": "third"}\n{"text": "fourth"}\n')
    write(tmp_path / "empty.txt", b"")
    write(tmp_path / "image.png", b"\0")
    write(tmp_path / ".hidden.txt", b"no")
    write(tmp_path / ".git" / "a.txt", b"no")
    assert texts(tmp_path) == ["first", "second", "third", "fourth"]


def test_several_sources_follow_one_another(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.txt", b"a"), write(tmp_path / "b.py", b"b")
    assert texts([b, str(a)]) == ["b", "a"]


# JSONL and Parquet


def test_jsonl_keeps_strings_to_the_character(tmp_path: Path) -> None:
    rows = ["a\r\nb", "<|endoftext|>", "\u2028line\u2029", "  ", ""]
    lines = "\n\n".join(json.dumps({"body": row}, ensure_ascii=False) for row in rows)
    path = write(tmp_path / "a.jsonl", lines.encode())
    assert texts(path, text_field="body") == rows[:3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', "line 3: not valid JSON"),
        ('["text"]', "line 3: a JSON object was expected, not list"),
        ('{"body": "x", "id": 1}', r"line 3: no field 'text'\n.*\['body', 'id'\]"),
        ('{"text": 7}', "line 3: field 'text' is not a string but int"),
        (
            '{"text": "ab\\ud800"}',
            "line 3: field 'text' holds half a surrogate pair at character 2",
        ),
        ("[" * 100_000, "line 3: not valid JSON"),
    ],
)
def test_a_bad_jsonl_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n\n{line}\n'.encode())
    with pytest.raises(DataError, match=message):
        texts(path)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = ["one", None, "two\r\n", " "] * 1000
    arrow.parquet.write_table(arrow.table({"text": rows, "n": range(4000)}), path)
    assert texts(path) == ["one", "two\r\n"] * 1000
    assert next(read_documents(path)).origin == f"{path}#1"
    with pytest.raises(DataError, match=r"no column 'body'\n.*\['text', 'n'\]"):
        texts(path, text_field="body")
    with pytest.raises(DataError, match="column 'n' holds int64, not strings"):
        texts(path, text_field="n")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        texts(path)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow.*\npip install 'stemma-llm\[data\]'"):
        texts(path)


# What cannot be read


def test_missing_paths_are_refused_at_the_call(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", b"x")
    with pytest.raises(DataError, match=r"no such file or folder\nDid you mean .*shakespeare\.txt"):
        read_documents(tmp_path / "shakespear.txt")
    with pytest.raises(DataError, match="no such file or folder\nCheck the path"):
        read_documents(tmp_path / "no" / "where.txt")
    with pytest.raises(DataError, match="no source of text"):
        read_documents([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "holds no text, nothing but white space"),
        (b"<|endoftext|>\n<|endoftext|>", "holds no text"),
        (b"text\0more", "is binary, not text: NUL at byte 4"),
        ("Käse".encode("latin-1"), "not UTF-8: byte 0xe4 at offset 1\n.*iconv -f WINDOWS-1252"),
        (b"ab\xe2\x82", "is not UTF-8: byte 0xe2 at offset 2"),
        ("hi".encode("utf-16"), "byte-order mark of UTF-16.*\n.*iconv -f UTF-16"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1 << 20, 3])
def test_bad_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str, chunk_bytes: int
) -> None:
    monkeypatch.setattr(decoding, "CHUNK_BYTES", chunk_bytes)
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(DataError, match=rf"a\.txt: .*{message}"):
        texts(path)


def test_bad_folders(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"x")
    with pytest.raises(DataError, match="none of the 1 files in this folder can be read"):
        read_documents(tmp_path)
    write(tmp_path / "b.txt", b" ")
    with pytest.raises(DataError, match="holds no text"):
        texts(tmp_path)
    bad = write(tmp_path / "c.txt", b"\0")
    with pytest.raises(DataError, match=f"{bad.name}: is binary"):
        texts(tmp_path)


def test_a_folder_in_place_of_a_link_target_that_vanished(tmp_path: Path) -> None:
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"dangling\.txt: cannot be read: No such file"):
        texts(tmp_path)
