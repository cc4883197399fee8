from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE
from stemma.tokenizers.scan.patterns import RULES
from stemma.tokenizers.scan.words import split_words
from stemma.tokenizers.text_files import read_chunks, size_of, without_gzip

TEXT = "One two  three.\nFour\n\n five;\r\nsix_ 7 ééé üüü\n" * 3


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab \n.,é1'\t_", max_size=60), size=st.integers(1, 16))
def test_chunks_have_the_words_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    chunks = list(read_chunks([path], chunk_bytes=size))
    assert "".join(chunks) == text
    for name in RULES:
        assert [word for chunk in chunks for word in split_words(chunk, name)] == (
            split_words(text, name)
        )


def test_real_text_is_cut_often(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode() * 50)
    chunks = list(read_chunks([path], chunk_bytes=100))
    assert len(chunks) > 20
    assert "".join(chunks) == TEXT.replace("\r\n", "\n") * 50


def test_several_files_one_after_another(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt.GZ", tmp_path / "empty", tmp_path / "c"]
    for path, text in zip(paths, [b"one", gzip.compress(b"two"), b"", b"three\r"], strict=True):
        path.write_bytes(text)
    assert list(read_chunks(paths)) == ["one", "two", "three\n"]
    assert [size_of(path) for path in paths] == [3, 3, 0, 6]
    assert size_of(Path("-")) == 0
    assert [str(without_gzip(path.relative_to(tmp_path))) for path in paths[:2]] == [
        "a.txt",
        "b.txt",
    ]


def test_a_byte_order_mark_is_no_text_but_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffab\ufeffcd".encode())
    for size in (3, 5, 8, 100):
        assert "".join(read_chunks([tmp_path / "a.txt"], size)) == "ab\ufeffcd"


def test_a_text_without_an_edge_is_not_searched_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = 0

    def counting(text: str) -> int:
        nonlocal searched
        searched += len(text)
        return 0

    monkeypatch.setattr("stemma.tokenizers.text_files._last_edge", counting)
    (tmp_path / "a.txt").write_text("x" * 10_000)
    assert list(read_chunks([tmp_path / "a.txt"], 10)) == ["x" * 10_000]
    assert searched < 25_000


def test_files_are_trained_on_like_their_text(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text(TEXT * 10, "utf-8", newline="")
    text = TEXT.replace("\r\n", "\n") * 10
    from_files = ByteLevelBPE.train(paths, 270)
    assert from_files.merges == ByteLevelBPE.train([text, text], 270).merges
    assert ByteLevelBPE.train(paths[0], 270).merges == ByteLevelBPE.train([text], 270).merges


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc def\xff")
    with pytest.raises(TokenizerError, match="byte 0xff at offset 7"):
        ByteLevelBPE.train([path], 300)
    path.write_bytes("é".encode() + b"a\xc3(")
    for size in (1, 2, 3, 4, 5, 6):
        with pytest.raises(TokenizerError, match="byte 0xc3 at offset 3"):
            list(read_chunks([path], size))
    path.write_bytes(b"abc\xc3")
    for size in (1, 3, 4, 5):
        with pytest.raises(TokenizerError, match="byte 0xc3 at offset 3"):
            list(read_chunks([path], size))
    with pytest.raises(TokenizerError, match="cannot be read"):
        ByteLevelBPE.train(tmp_path / "missing", 300)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffone two \ufeffthree", "utf-8")
    for size in (4, 100):
        assert "".join(read_chunks([path], chunk_bytes=size)) == "one two \ufeffthree"
