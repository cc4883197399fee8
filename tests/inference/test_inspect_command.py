"""`stemma inspect`: from any file, in any width, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model
from typer.testing import CliRunner

from stemma import hub
from stemma.cli import build_app
from stemma.errors import ModelError
from stemma.hub import save_model
from stemma.inference.inspection_text import in_bytes, short, summary_lines, tree_lines
from stemma.models import inspect_config, preset
from stemma.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(build_app("inspect"), ["inspect", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_model(tiny_model(vocab_size=BYTES.vocab_size), BYTES, tmp_path / "model")


def test_a_model_directory_is_inspected_without_its_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    values = json.loads(run(str(directory), "--json").stdout)
    model = tiny_model(vocab_size=BYTES.vocab_size)
    assert values["parameters"] == model.n_parameters()
    assert values["context_length"] == 48
    assert hub.read_config(directory) == model.config


def test_an_architecture_by_its_name() -> None:
    shown = run("llama3-8b").stdout
    assert "8,030,261,248" in shown
    assert "0-31  Block" in shown
    assert "32 x 218,112,000" in shown
    assert "a token    128 KiB" in shown


@pytest.mark.slow
def test_a_gguf_file(smollm2: Path) -> None:
    read, loaded = hub.read_config(smollm2), hub.load(smollm2)[0].config
    assert read == loaded
    assert read == preset("smollm2-135m")
    assert "134,515,008" in run(str(smollm2)).stdout


def test_a_model_of_llama2c(mirror: Any) -> None:
    path = mirror("weights/stories260K/stories260K.bin")
    assert hub.read_config(path) == hub.load(path)[0].config


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(ModelError, match="no path and no model of the catalog"):
        run("no-such-model")


def test_an_unknown_name_is_compared_with_architectures_too() -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'gpt2-large'|.*'gpt2-small'"):
        run("gpt2-smal")
    with pytest.raises(ModelError, match=r"Architectures without weights: .*gemma3-270m") as said:
        run("nosuch")
    assert str(said.value).count("gemma3-270m") == 1


def test_which_file_of_a_folder_is_opened_is_said(mirror: Any) -> None:
    path = mirror("weights/stories260K/stories260K.bin")
    assert run(str(path.parent)).stderr == f"opening {path}\n"
    assert run(str(path)).stderr == ""


def test_of_parts_alike_the_number_of_one_is_shown() -> None:
    block = [line for line in tree_lines(SMOLLM2.tree, 80) if "Block" in line]
    assert block[0].endswith(" 30 x 3,540,096")


SMOLLM2 = inspect_config(preset("smollm2-135m"))


@given(st.integers(10, 120))
def test_no_line_is_wider_than_it_must_be(width: int) -> None:
    for line in tree_lines(SMOLLM2.tree, width):
        name, number = line.split()[0], line.split()[-1]
        least = len(line) - len(line.lstrip()) + len(name) + len(number) + 12
        assert len(line) <= max(width, least)


def test_the_summary_says_where_there_is_no_cache() -> None:
    assert any(
        "sees the whole text" in line for line in summary_lines(inspect_config(preset("bert-base")))
    )


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 K"),
        (999_960, "1 M"),
        (134_515_008, "134.5 M"),
        (7e15, "7 P"),
    ],
)
def test_numbers(n: float, text: str) -> None:
    assert short(n) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**40, "1 TiB")]
)
def test_bytes(n: float, text: str) -> None:
    assert in_bytes(n) == text
