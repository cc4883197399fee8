from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, load_tokenizer
from stemma.tokenizers.commands import app
from stemma.tokenizers.text_files import read_chunks

TEXT = "the cat sat on the mat\n\n  the dog sat on the log, and the frog sat too\n" * 9


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_writes_what_the_library_would(tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text(TEXT)
    output = tmp_path / "tokenizer"
    inputs = [part for file in files for part in ("--input", str(file))]
    shown = run("train", *inputs, "--vocab-size", "280", "--output", str(output))
    assert "280 tokens, 23 merges" in shown
    assert load_tokenizer(output).fingerprint == ByteLevelBPE.train([TEXT] * 2, 280).fingerprint
    with pytest.raises(TokenizerError, match="there is a tokenizer already"):
        run("train", *inputs, "--vocab-size", "290", "--output", str(output))


def test_train_on_too_little_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab ab")
    arguments = ["train", "--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "t")]
    with pytest.raises(TokenizerError, match="the text gives 1"):
        run(*arguments, "--vocab-size", "500")
    assert not (tmp_path / "t").exists()
    assert "258 tokens" in run(*arguments, "--vocab-size", "500", "--allow-fewer")


def test_show_cuts_and_numbers() -> None:
    cut, ids, counts = run("show", "Hello wörld\n[bold]€").splitlines()
    assert cut.startswith("Hello| w|ör|ld|\\n|[|bold|]|€")
    assert ids.split()[:2] == ["15496", "266"]
    assert counts.startswith(f"{len(ids.split())} tokens, 22 bytes")
    assert run("show", "").splitlines()[-1] == "0 tokens, 0 bytes"


def test_show_reads_a_directory(tmp_path: Path) -> None:
    ByteLevelBPE.train([TEXT], 280).save(tmp_path)
    assert " the" in run("show", "on the", "--tokenizer", str(tmp_path))
    assert "<e2>" in run("show", "€", "--tokenizer", str(tmp_path))


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64, 1 << 20])
def test_chunks_are_the_text_and_have_its_words(tmp_path: Path, chunk_bytes: int) -> None:
    text = "\n\n a€b  \r\n\n\tc\n" + TEXT + "end \n \n"
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" * (chunk_bytes > 2) + text.encode())
    chunks = list(read_chunks([path], chunk_bytes))
    plain = text.replace("\r\n", "\n")
    assert "".join(chunks) == plain
    learned = ByteLevelBPE.train(chunks, 300, allow_fewer=True)
    assert learned.merges == ByteLevelBPE.train([plain], 300, allow_fewer=True).merges


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    for chunk_bytes in (1, 5, 100):
        path.write_bytes("na€ve: ".encode() + b"caf\xe9 au lait")
        with pytest.raises(TokenizerError, match="not UTF-8: byte 0xe9 at offset 12"):
            list(read_chunks([path], chunk_bytes))
        path.write_bytes(b"cut \xe2\x82")
        with pytest.raises(TokenizerError, match="not UTF-8: byte 0xe2 at offset 4"):
            list(read_chunks([path], chunk_bytes))
    for missing in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(TokenizerError, match="cannot be read"):
            list(read_chunks([missing]))
