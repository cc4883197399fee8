"""`stemma evaluate`, with a model that needs no training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from numpy.typing import NDArray
from typer.testing import CliRunner

from stemma.evaluation.commands import describe, evaluate_command
from stemma.evaluation.result import Evaluation
from stemma.models.ngram import NGram

Run = Callable[..., Result]


class Bytes:
    vocab_size = 257
    end_of_text = 256
    fingerprint = "bytes"

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    model = NGram.fit([0], 1, vocab_size=257).at_order(0)
    monkeypatch.setattr("stemma.hub.load", lambda name: (model, Bytes()), raising=False)
    app = typer.Typer()
    app.command()(evaluate_command)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_bits_of_a_text_with_its_end(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("grüße")  # 7 bytes and the end of the text, 8 tokens of log2(257) bits
    result = run("anything", "--text", str(text))
    assert result.exit_code == 0, result.output
    assert "8 tokens, 7 bytes" in result.output
    assert f"{np.log2(257) * 8 / 7:.4f}" in result.output
    assert "all tokens before each" in result.output


def test_windows_are_stated(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be")
    result = run("m", "--text", str(text), "--context-length", "8", "--stride", "3")
    assert "windows of 8 tokens, stride 3" in result.output


def test_every_unit_is_shown() -> None:
    shown = describe(Evaluation(np.log(2), 2_000, 1_000, 128, 64, 0.01))
    assert "2.0000 ± 0.0289" in shown
    for part in ("1.0000", "0.6931 nats", "2.00", "2,000 tokens", "stride 64"):
        assert part in shown


def test_the_command_is_known_without_torch() -> None:
    code = "import sys, stemma.evaluation.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
