"""What ``stemma pull`` has on this machine afterwards, and what it says of it."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stemma.cli import build_app
from stemma.errors import DataError, ModelError, StemmaError
from stemma.hub import load
from stemma.hub.catalog import cache_directory, catalog
from stemma.hub.fetching import licence_of, pull

WEIGHTS = b"GGUF and so on"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("STEMMA_OFFLINE", raising=False)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def address(served: tuple[Path, str]) -> str:
    folder, url = served
    (folder / "model v1.gguf").write_bytes(WEIGHTS)
    return f"{url}/model%20v1.gguf?download=true"


@pytest.mark.usefixtures("online")
def test_an_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pull(address, sha256=SHA256.upper())
    assert found.path.name == "model v1.gguf"
    assert found.path.is_relative_to(cache_directory())
    assert found.files == {found.path: SHA256}
    assert found.n_bytes == len(WEIGHTS)
    (tmp_path / "served" / "model v1.gguf").unlink()
    assert pull(address, sha256=SHA256.upper()) == found
    with pytest.raises(DataError, match="wrong checksum"):
        pull(address, sha256="0" * 64)
    monkeypatch.setenv("STEMMA_OFFLINE", "1")
    assert pull(address) == found
    with pytest.raises(DataError, match="network is switched off"):
        pull(address + "2")
    for bad in ("http://127.0.0.1/", "http://127.0.0.1/..", "https://x/%2e%2e%2fa"):
        with pytest.raises(DataError, match="names no file"):
            pull(bad)


@pytest.mark.usefixtures("online")
def test_into_a_directory(address: str, tmp_path: Path) -> None:
    found = pull(address, to=tmp_path / "here")
    assert found.path == tmp_path / "here" / "model v1.gguf"
    assert found.path.read_bytes() == WEIGHTS
    assert pull(address, to=tmp_path / "here") == found
    found.path.write_bytes(b"something else")
    with pytest.raises(DataError, match="nothing is overwritten"):
        pull(address, to=tmp_path / "here")
    assert found.path.read_bytes() == b"something else"


def test_a_path(saved: Path, tmp_path: Path) -> None:
    found = pull(str(saved))
    assert found.path == saved
    assert {path.name for path in found.files} >= {"config.json", "model.safetensors", "README.md"}
    assert found.licence is None
    (saved / "README.md").write_text("---\nlibrary_name: x\nlicense: apache-2.0\n---\n")
    assert licence_of(saved) == "apache-2.0"
    copied = pull(str(saved), to=tmp_path / "copy")
    assert copied.files.keys() == {tmp_path / "copy" / path.name for path in found.files}
    assert load(tmp_path / "copy")[0].config == load(saved)[0].config


def test_a_repository(saved: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hf" / "models--owner--repo"
    shutil.copytree(saved, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    found = pull("owner/repo", to=tmp_path / "copy")
    assert found.path == tmp_path / "copy"
    assert (found.path / "model.safetensors").is_file()
    with pytest.raises(ModelError, match="not in the local cache"):
        pull("owner/repo@other")


def test_names_of_the_catalog(
    mirror: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mirror("weights/stories260K").parent.parent
    monkeypatch.setenv("STEMMA_MIRROR", str(root))
    found = pull("stories260K")
    assert found.path == root / "weights" / "stories260K"
    assert {path.name: sha256 for path, sha256 in found.files.items()} == {
        name: file.sha256 for name, file in catalog()["stories260K"].files.items()
    }
    assert found.licence == "MIT"
    assert pull("stories260K/tok512.bin").path.name == "tok512.bin"
    with pytest.raises(DataError, match=r"(?s)'stories'.*Did you mean 'stories"):
        pull("stories")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(build_app("pull"), ["pull", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command(mirror: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_MIRROR", str(mirror("weights/stories260K").parent.parent))
    said = run("stories260K")
    assert "weights/stories260K" in said
    assert catalog()["stories260K"].files["stories260K.bin"].sha256 in said
    assert "licence: MIT" in said
    assert 'next: stemma generate stories260K "' in said
    assert "next: stemma data prepare" in run("tinyshakespeare")
    assert "next" not in run("char-rnn-shakespeare")


def test_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for said in (run("--list"), run()):
        _, *lines = said.splitlines()
        rows = {line.split()[0]: line for line in lines if not line.startswith(" ")}
        assert rows.keys() == catalog().keys()
        assert "SmolLM2-135M-Instruct" in rows["smollm2"]
        assert "Apache-2.0" in said


@pytest.mark.slow
def test_gpt2_is_the_one_that_is_known(mirror: Callable[[str], Path]) -> None:
    """Its last logits for three prompts, as another program wrote them down."""
    golden = mirror("weights/gpt2-124m-golden")
    try:
        path = pull("gpt2").path
    except StemmaError as error:
        pytest.skip(f"needs the 124M weights of openai-community/gpt2: {error.what}")
    model, _ = load(path)
    for file in sorted(golden.glob("*.js.gz")):
        text = gzip.decompress(file.read_bytes()).decode()
        ids, expected = numbers(text, "tokenIds"), numbers(text, "logits")
        assert len(expected) == 50_257
        with torch.no_grad():
            logits = model(torch.tensor([ids], dtype=torch.long))[0, -1].numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-2)


def numbers(text: str, name: str) -> list[float]:
    """The first row of numbers of that name in a file of JavaScript."""
    found = re.search(rf"\b{name}: \[([^\]]*)\]", text)
    assert found
    return [float(number) for number in found[1].split(",") if number.strip()]


def test_the_golden_numbers_can_be_read(mirror: Callable[[str], Path]) -> None:
    text = gzip.decompress((mirror("weights/gpt2-124m-golden") / "ex0.js.gz").read_bytes()).decode()
    assert numbers(text, "tokenIds") == [6601, 32704, 795, 30132, 2985, 284]
    assert len(numbers(text, "logits")) == 50_257


def test_what_is_neither_an_address_nor_a_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no address that can be fetched"):
        pull("ftp://example.org/a")
    with pytest.raises(DataError, match="there is no such file or directory"):
        pull(str(tmp_path / "none"))


def test_the_list_says_what_cannot_be_opened_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(build_app("pull"), ["pull", "--list"]).stdout.splitlines()
    assert lines[0].split() == ["name", "kind", "here", "what", "it", "is", "(licence)"]
    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert "input (MIT); files alone, which load does not read" in said
