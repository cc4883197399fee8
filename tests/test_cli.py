"""The command line: what it imports, what it says, how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stemma.cli import COMMANDS, build_app, main
from stemma.errors import TokenizerError
from stemma.tokenizers import kernels

HELP_PATHS = [
    [],
    *([name] for name in COMMANDS),
    ["recipes", "show"],
    ["tokenizer", "train"],
    ["tokenizer", "show"],
    ["tokenizer", "compare"],
    ["tokenizer", "stats"],
    ["tokenizer", "encode"],
    ["tokenizer", "decode"],
    ["data", "prepare"],
    ["data", "encode"],
    ["data", "verify"],
]


def stemma(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stemma", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_commands_own_first_line(name: str) -> None:
    command = COMMANDS[name]
    target = getattr(import_module(command.module), command.attribute)
    if isinstance(target, typer.Typer):
        assert command.summary
    else:
        assert target.__doc__.splitlines()[0] == command.summary


def test_help_fills_its_lines_and_keeps_brackets() -> None:
    arguments = ["pull", "--help"]
    shown = CliRunner().invoke(build_app("pull"), arguments, env={"COLUMNS": "80"}).stdout
    assert "in a mirror folder\n (STEMMA_MIRROR), then" in re.sub(" +\n", "\n", shown)
    assert "owner/repo[@revision]" in shown


@pytest.mark.parametrize("path", HELP_PATHS, ids=" ".join)
def test_help_needs_no_torch(path: list[str]) -> None:
    probe = (
        "import sys\nfrom stemma.cli import main\n"
        f"try:\n    main({[*path, '--help']!r})\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_import_stemma_needs_neither_torch_nor_numpy() -> None:
    probe = "import sys, stemma; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)


def test_version() -> None:
    done = stemma("--version")
    assert done.stdout.startswith("stemma ")
    assert done.returncode == 0


def test_an_error_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    done = stemma("quickstart", "--text", "missing.txt", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "missing.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_on_request(tmp_path: Path) -> None:
    done = stemma("quickstart", "--text", "missing.txt", "--traceback", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def test_a_misspelt_command_ends_with_2() -> None:
    assert stemma("quikstart").returncode == 2
    assert stemma("train").returncode == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b" \n\t\n", "white space"),
        (b"abc\x00def" * 100, "binary"),
        (b"caf\xe9 " * 100, "UTF-8"),
        (b"tiny", "4 bytes of text are too few"),
    ],
    ids=["missing", "empty", "blank", "binary", "latin-1", "tiny"],
)
def test_bad_text_is_named_and_leaves_no_run_in_the_way(
    content: bytes | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "bad.txt"
    if content is not None:
        text.write_bytes(content)
    output = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["quickstart", "--text", str(text), "--output", str(output), "--quiet"])
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert expected in message
    assert not output.exists()


def test_a_failed_start_leaves_the_run_that_it_was_to_replace(tmp_path: Path) -> None:
    text, output = tmp_path / "bad.txt", tmp_path / "run"
    text.write_bytes(b"caf\xe9 " * 100)
    output.mkdir()
    (output / "recipe.toml").write_text("name = 'old'", encoding="utf-8")
    (output / "precious.txt").write_text("weeks of work", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["quickstart", "--text", str(text), "--output", str(output), "--overwrite", "-q"])
    assert (output / "precious.txt").read_text(encoding="utf-8") == "weeks of work"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_warnings_and_long_waits_are_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(_: str) -> None:
        warnings.warn("something is odd", stacklevel=1)
        kernels._announce()
        raise TokenizerError("stop")

    monkeypatch.setattr("stemma.tokenizers.commands._find", find)
    shown = warnings.showwarning
    with pytest.raises(SystemExit):
        main(["tokenizer", "encode", "a"])
    assert capsys.readouterr().err.splitlines() == [
        "warning: something is odd",
        "compiling machine code for this processor: about 20 seconds, once on this machine",
        "error: stop",
    ]
    assert warnings.showwarning is shown
