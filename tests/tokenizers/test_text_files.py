from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE
from stemma.tokenizers.scan.patterns import RULES
from stemma.tokenizers.scan.words import split_words
from stemma.tokenizers.text_files import read_chunks

TEXT = "One two  three.\nFour\n\n five;\r\nsix_ 7 ééé üüü\n" * 3


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab \n.,é1'\t", max_size=60), size=st.integers(1, 16))
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
    with pytest.raises(TokenizerError, match="cannot be read"):
        ByteLevelBPE.train(tmp_path / "missing", 300)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffone two \ufeffthree", "utf-8")
    for size in (4, 100):
        assert "".join(read_chunks([path], chunk_bytes=size)) == "one two \ufeffthree"
