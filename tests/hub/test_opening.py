from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

import stemma
from stemma.errors import ModelError, TokenizerError
from stemma.hub import load, load_tokenizer
from stemma.hub.catalog import Entry, catalog
from stemma.hub.download import file_sha256
from stemma.hub.huggingface import repository
from stemma.tokenizers import Tokenizer, gpt2

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STEMMA_OFFLINE", "1")
    monkeypatch.delenv("STEMMA_MIRROR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def cached_repository(saved: Path, tmp_path: Path) -> str:
    """A repository as `huggingface_hub` keeps it, without the checksums of ours."""
    place = tmp_path / "hf" / "models--owner--repo"
    shutil.copytree(saved, place / "snapshots" / COMMIT)
    (place / "snapshots" / COMMIT / "SHA256SUMS").unlink()
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    (place / "refs" / "v1").write_text(COMMIT)
    return "owner/repo"


def test_a_model_directory(saved: Path, tokenizer: Tokenizer, ids: Tensor) -> None:
    model, loaded = load(saved)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert model(ids).shape == (2, 48, 260)
    assert model(ids).dtype == torch.float32
    assert load(str(saved), dtype=torch.float64)[0](ids).dtype == torch.float64


def test_it_is_stemmas_own_load() -> None:
    assert stemma.load is load
    assert stemma.load_tokenizer is load_tokenizer


def test_a_run_directory(saved: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text('name = "run"\n')
    with pytest.raises(ModelError, match=f"(?s)not trained to its end.*stemma resume {run}"):
        load(run)
    tokenizer.save(run / "tokenizer")
    assert load_tokenizer(run).fingerprint == tokenizer.fingerprint
    shutil.copytree(saved, run / "model")
    assert load(run)[1].fingerprint == tokenizer.fingerprint
    assert load_tokenizer(run).fingerprint == tokenizer.fingerprint


def test_a_home_directory_is_expanded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))
    assert load("~/model")[0].vocab_size == 260


@pytest.mark.parametrize("revision", ["", "@main", "@v1", f"@{COMMIT}"])
def test_a_repository_of_the_hub(cached_repository: str, revision: str, ids: Tensor) -> None:
    model, tokenizer = load(cached_repository + revision)
    assert model(ids).shape == (2, 48, 260)
    assert load_tokenizer(cached_repository + revision).fingerprint == tokenizer.fingerprint


def test_a_repository_that_is_not_at_hand_offline(cached_repository: str) -> None:
    for name in ("owner/other", f"{cached_repository}@v2"):
        with pytest.raises(ModelError, match=rf"(?s){name}: is not in the local cache.*OFFLINE"):
            load(name)


def test_names_of_repositories() -> None:
    assert repository("openai-community/gpt2") == ("openai-community/gpt2", None)
    assert repository("a/b.c_d-e@refs/pr/1") == ("a/b.c_d-e", "refs/pr/1")
    for name in ("gpt2", "a/b/c", "a/", "/b", "a b/c", "a/b@", ""):
        assert repository(name) is None


def test_gpt2_by_name(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: Tensor
) -> None:
    with pytest.raises(stemma.StemmaError, match=r"(?s)openai-community/gpt2/resolve.*OFFLINE"):
        load("gpt2")
    monkeypatch.setenv("STEMMA_MIRROR", str(tmp_path / "mirror"))
    shutil.copytree(saved, tmp_path / "mirror" / "weights" / "gpt2")
    with pytest.raises(stemma.StemmaError, match="wrong checksum"):
        load("gpt2")
    names = ("config.json", "model.safetensors", "tokenizer.json")
    files = {name: {"sha256": file_sha256(saved / name)} for name in names}
    entry = Entry.parse({**catalog()["gpt2"].model_dump(), "files": files})
    for module in ("stemma.hub.catalog", "stemma.hub.opening"):
        monkeypatch.setattr(import_module(module), "catalog", lambda: {"gpt2": entry})
    assert load("gpt2")[0](ids).shape == (2, 48, 260)


def test_gpt2s_tokenizer_comes_with_the_package() -> None:
    assert load_tokenizer("gpt2").fingerprint == gpt2().fingerprint
    assert load_tokenizer("gpt2").encode("Hello world").tolist() == [15496, 995]


def test_a_tokenizer_by_its_file(saved: Path, tokenizer: Tokenizer) -> None:
    for path in (saved, saved / "tokenizer.json"):
        assert load_tokenizer(path).fingerprint == tokenizer.fingerprint


def test_a_damaged_tokenizer_is_noticed(saved: Path) -> None:
    path = saved / "tokenizer.json"
    path.write_text(path.read_text().replace("endoftext", "endoftexx"))
    for read in (load, load_tokenizer):
        with pytest.raises(TokenizerError, match="is damaged"):
            read(saved)


def test_a_directory_without_a_tokenizer(saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"(?s)holds no tokenizer\.json.*load_model"):
        load(saved)
    with pytest.raises(TokenizerError, match="no tokenizer here"):
        load_tokenizer(saved)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"neither a model directory .* nor a run"):
        load(tmp_path / "empty")
    for name in ("weights.pt", "weights.ckpt"):
        (tmp_path / name).touch()
        with pytest.raises(ModelError, match=r"(?s)weights\..*: is a pickle.*never reads one"):
            load(tmp_path / name)
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ModelError, match=r"(?s)weights\.bin: is not a model of llama2\.c.*PyTorch"):
        load(tmp_path / "weights.bin")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match="is a file, and a model is a directory"):
        load(tmp_path / "notes.txt")
    with pytest.raises(ModelError, match=r"(?s)no path and no model .*'gtp2'.*Did you mean 'gpt2'"):
        load("gtp2")
    with pytest.raises(ModelError, match=r"'tinyshakespeare' is .*: not a model"):
        load("tinyshakespeare")
    with pytest.raises(ModelError, match=r"(?s)nowhere/at/all.*owner/repo"):
        load("nowhere/at/all")


def test_another_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        import_module("stemma.hub.opening"), "resolve", lambda name, progress: tmp_path
    )
    with pytest.raises(ModelError, match=r"LSTM.*, which load does not read"):
        load("char-rnn-shakespeare")


def test_types_by_name(saved: Path) -> None:
    whole = load(saved)[0].state_dict()
    for name, dtype in {"bfloat16": torch.bfloat16, "f16": torch.float16, "auto": None}.items():
        for key, tensor in load(saved, dtype=name)[0].state_dict().items():
            assert torch.equal(tensor, whole[key].to(dtype or torch.float32)), (name, key)
    with pytest.raises(ModelError, match=r"(?s)dtype = 'int3'.*auto, fast, float32"):
        load(saved, dtype="int3")


def test_a_directory_of_anothers_without_checksums(saved: Path, ids: Tensor) -> None:
    expected = load(saved)[0](ids)
    for name in ("SHA256SUMS", "tokenizer.json.sha256", "generation_config.json", "README.md"):
        (saved / name).unlink()
    config = json.loads((saved / "config.json").read_text())
    config["transformers_version"] = "4.30.0"
    (saved / "config.json").write_text(json.dumps(config))
    assert torch.equal(load(saved)[0](ids), expected)


def test_opening_a_model_does_not_load_the_compiler_of_torch(saved: Path) -> None:
    code = "import sys, stemma; stemma.load(sys.argv[1]); assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


def test_what_is_wrong_is_named_before_what_is_missing(saved: Path, tmp_path: Path) -> None:
    (saved / "tokenizer.json").unlink()
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(ModelError, match="is a pickle"):
        load(saved)
    (saved / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ModelError, match="'mamba' is not known here"):
        load(saved)
    unnamed = tmp_path / "weights"
    unnamed.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ModelError, match=r"is a GGUF file under another name\nRename it"):
        load(unnamed)
    several = tmp_path / "several"
    several.mkdir()
    for name in ("b.gguf", "a.gguf"):
        (several / name).touch()
    with pytest.raises(ModelError, match=r"several: holds several models: a\.gguf, b\.gguf"):
        load(several)
    for missing in (tmp_path / "none.gguf", Path("none.gguf")):
        with pytest.raises(ModelError, match="there is no such file or directory"):
            load(missing)
    with pytest.raises(ModelError, match=r"none: there is no such directory"):
        load(tmp_path / "none" / "model")


def test_only_models_that_open_are_offered() -> None:
    assert not catalog()["gpt-nano-sort"].opens
    assert {"smollm2", "gpt2", "minilm", "stories15M"} <= {
        n for n, e in catalog().items() if e.opens
    }
    with pytest.raises(ModelError) as caught:
        load("xyz")
    assert "char-rnn" not in str(caught.value)
