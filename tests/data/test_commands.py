from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import stemma.data
from stemma.data import commands
from stemma.errors import DataError
from stemma.tokenizers import ByteLevelBPE, Tokenizer, WordPiece

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tokenizer: object) -> Run:
    monkeypatch.setattr(commands, "_load_tokenizer", lambda name: tokenizer)
    monkeypatch.setattr(commands, "_warn_of_losses", lambda *_: None)

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(
            commands.app, [str(argument) for argument in arguments], catch_exceptions=False
        )

    return invoke


def test_encode_then_verify(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A line of text.\n" * 100)
    arguments = ["encode", str(path), "--tokenizer", "gpt2", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(commands.app, arguments, catch_exceptions=False)
    line = f"{tmp_path}/out: 1 documents, 1,600 bytes, 601 tokens (2.66 bytes per token)"
    assert result.stdout.splitlines() == [line]
    verified = CliRunner().invoke(commands.app, ["verify", str(tmp_path / "out")])
    assert verified.output.splitlines() == [line]


@pytest.mark.parametrize("command", ["encode", "prepare"])
def test_what_is_lost_is_said(command: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A line of text, or é.\n" * 100)

    def said(tokenizer: Tokenizer) -> list[str]:
        name = f"{tokenizer.__class__.__name__}{tokenizer.vocab_size}"
        tokenizer.save(tmp_path / name)
        arguments = [command, str(path), "--output", str(tmp_path / f"{name}.out")]
        arguments += ["--tokenizer", str(tmp_path / name)]
        result = CliRunner().invoke(commands.app, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return [line for line in result.stderr.splitlines() if "warning" in line]

    assert said(ByteLevelBPE.train([], 257)) == []
    pieces = WordPiece.bert(["[UNK]", "[CLS]", "[SEP]", "a", "line", "of", "text", ",", "e"])
    assert said(pieces) == [
        "warning: 200 of 800 tokens (25 %) are [UNK]: their text is lost",
        "warning: this tokenizer changes text: 'A' comes back as 'a'",
    ]
    letters = WordPiece.train(["a b c . e \ufb01 " * 9], 30, allow_fewer=True)
    lost, changed = said(letters)
    assert "are [UNK]: their text is lost" in lost
    assert changed.startswith("warning: this tokenizer changes text: ")


def test_prepare_then_verify(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A line of text.\n" * 100)
    output = tmp_path / "out"
    result = run("prepare", tmp_path / "a.txt", "--tokenizer", "any", "--output", output)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{output}/train: 1 documents, 1,440 bytes, 1,441 tokens (1.00 bytes per token)",
        f"{output}/heldout: 1 documents, 160 bytes, 161 tokens (0.99 bytes per token)",
    ]
    assert run("verify", output).output == result.output
    assert run("verify", output / "heldout").output == result.output.splitlines()[1] + "\n"


def test_options_reach_the_split_and_the_reader(run: Run, tmp_path: Path) -> None:
    lines = [f'{{"body": "{i:04d} {"x" * 95}"}}' for i in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    options = ("--tokenizer", "any", "--text-field", "body", "--held-out", "0.3")
    held = []
    for seed in ("1", "2"):
        output = tmp_path / seed
        run("prepare", tmp_path / "a.jsonl", *options, "--seed", seed, "--output", output)
        held.append(stemma.data.TokenShards(output / "heldout"))
    assert [shards.n_documents for shards in held] == pytest.approx([30, 30], abs=3)
    assert not np.array_equal(held[0][:], held[1][:])


def test_a_shipped_corpus_by_name(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run("prepare", "shakespeare", "--tokenizer", "any", "--output", output)
    train, held_out = stemma.data.open_prepared(output)
    assert train.n_documents + held_out.n_documents == 42
    assert held_out.n_bytes / 5_057_203 == pytest.approx(0.1, abs=0.02)


def test_damage_is_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A line of text.\n" * 100)
    run("prepare", tmp_path / "a.txt", "--tokenizer", "any", "--output", tmp_path / "out")
    path = tmp_path / "out" / "heldout" / "tokens-00000.bin"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"heldout/tokens-00000\.bin: damaged"):
        run("verify", tmp_path / "out")
    with pytest.raises(DataError, match="holds no token shards"):
        run("verify", tmp_path)


def test_progress_is_shown_when_the_work_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    commands._progress(every_seconds=3600)(1, 10)
    assert capsys.readouterr().err == ""
    commands._progress(every_seconds=0)(1200, 3_000_000)
    assert capsys.readouterr().err.startswith("1,200 documents, 3.0 MB, ")


def test_importing_the_commands_costs_neither_torch_nor_numpy() -> None:
    code = "import sys, stemma.data.commands; print({'torch', 'numpy'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout == "set()\n"


def test_every_public_name_is_there() -> None:
    for name in stemma.data.__all__:
        assert getattr(stemma.data, name) is not None
    assert dir(stemma.data) == sorted(stemma.data.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stemma.data.nothing  # noqa: B018
