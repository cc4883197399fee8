"""The commands of the README do what it says, on the quickstart made short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SHORT = [
    f"--set={setting}"
    for setting in (
        "training.steps=12",
        "training.batch_size=2",
        "training.evaluate_every=12",
        "schedule.warmup_steps=2",
        "model.d_model=32",
        "model.context_length=64",
        "model.attention.n_heads=2",
        "model.feedforward.d_ff=48",
        "tokenizer.vocab_size=320",
        "evaluation.ngram_order=2",
        "samples.max_new_tokens=5",
    )
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("stemma ")]


def run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    if command[1] in {"quickstart", "train"}:
        command = [*command, *SHORT]
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        input="What is the capital of France?\n" if command[1] == "chat" else None,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "LICENSE").write_bytes((README.parent / "LICENSE").read_bytes())
    done = run(["stemma", "quickstart"], folder)
    assert done.returncode == 0, done.stderr
    assert "runs/quickstart/report.html" in done.stdout
    return folder


@pytest.mark.parametrize("command", commands(), ids=shlex.join)
def test_every_command_works(
    command: list[str], place: Path, request: pytest.FixtureRequest
) -> None:
    if "smollm2" in command:
        request.getfixturevalue("smollm2")  # skips where it cannot be had
    done = run(command, place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_works(code: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert link.startswith("http") or (README.parent / link).exists(), link


def test_no_page_holds_a_placeholder() -> None:
    for page in [README, *(README.parent / "docs").rglob("*.md")]:
        assert not re.findall(r"@[A-Z]+@", page.read_text(encoding="utf-8")), page
