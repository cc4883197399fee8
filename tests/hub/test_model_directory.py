from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stemma.errors import ModelError, StemmaError
from stemma.hub import ModelCard, load_model, save_model
from stemma.models import Transformer, preset
from stemma.nn import AttentionConfig
from stemma.tokenizers import Tokenizer


@torch.no_grad()
def greedy(model: Transformer, ids: Tensor, n_new: int) -> list[int]:
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
    chosen: list[int] = ids[0].tolist()
    return chosen


def open_with_transformers(directory: Path) -> Any:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


def test_transformers_opens_it_as_it_is(
    model: Transformer, tokenizer: Tokenizer, ids: Tensor, tmp_path: Path
) -> None:
    directory = save_model(model, tokenizer, tmp_path / "model")
    theirs = open_with_transformers(directory)
    with torch.no_grad():
        assert (theirs(ids).logits - model(ids)).abs().max() < 1e-4
    prompt = ids[:1, :8]
    theirs.generation_config.eos_token_id = None
    generated = theirs.generate(prompt, max_new_tokens=30, do_sample=False)
    assert generated[0].tolist() == greedy(model, prompt, 30)
    for config in (theirs.config, transformers.GenerationConfig.from_pretrained(directory)):
        assert config.eos_token_id == config.bos_token_id == tokenizer.end_of_text


def test_the_comparison_with_transformers_can_fail(
    model: Transformer, tokenizer: Tokenizer, ids: Tensor, tmp_path: Path
) -> None:
    directory = save_model(model, tokenizer, tmp_path / "model")
    theirs = open_with_transformers(directory)
    with torch.no_grad():
        model.blocks[1].attention.o_proj.weight[0, 0] += 0.5
        assert (theirs(ids).logits - model(ids)).abs().max() > 1e-3


def test_their_tokenizer_gives_our_ids(saved: Path, tokenizer: Tokenizer) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    text = "Wherefore art thou,\n\tRomeo? \u4f55\u6545 \U0001f339 "
    assert theirs(text).input_ids == tokenizer.encode(text).tolist()
    assert theirs("<|endoftext|>").input_ids == [tokenizer.end_of_text]
    assert theirs.eos_token_id == tokenizer.end_of_text
    assert theirs.decode(theirs(text).input_ids) == text


def test_ours_comes_back_to_the_bit(
    model: Transformer, tokenizer: Tokenizer, ids: Tensor, tmp_path: Path
) -> None:
    loaded = load_model(save_model(model, tokenizer, tmp_path / "model"))
    assert not loaded.training
    assert all(not parameter.is_meta for parameter in loaded.parameters())
    assert torch.equal(loaded(ids), model(ids))
    state, expected = loaded.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    if model.config.tie_embeddings:
        assert loaded.head.weight is loaded.embed.tokens.weight


THEIRS = {
    "gpt2": transformers.GPT2Config(
        vocab_size=61, n_positions=48, n_embd=24, n_layer=2, n_head=3, initializer_range=0.3
    ),
    "llama": transformers.LlamaConfig(
        vocab_size=61,
        max_position_embeddings=48,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=40,
        initializer_range=0.3,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
    "qwen3": transformers.Qwen3Config(
        vocab_size=61,
        max_position_embeddings=48,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=10,
        intermediate_size=40,
        initializer_range=0.3,
        tie_word_embeddings=True,
    ),
}


@pytest.fixture(params=sorted(THEIRS))
def theirs(request: pytest.FixtureRequest) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return transformers.AutoModelForCausalLM.from_config(THEIRS[request.param]).eval()


@pytest.mark.parametrize("shard", ["1GB", "10KB"])
def test_what_transformers_saved_is_opened(theirs: Any, shard: str, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "10KB")
    loaded = load_model(tmp_path)
    ids = torch.randint(61, (2, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (loaded(ids) - theirs(ids).logits).abs().max() < 1e-4
    theirs.generation_config.eos_token_id = None
    prompt = ids[:1, :5]
    generated = theirs.generate(prompt, max_new_tokens=20, do_sample=False)
    assert generated[0].tolist() == greedy(loaded, prompt, 20)


def test_the_layout_of_the_published_gpt2_is_opened(tmp_path: Path) -> None:
    """No ``transformer.`` before the names, no ``lm_head.weight``, and masks among the weights."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = transformers.GPT2LMHeadModel(THEIRS["gpt2"]).eval()
    theirs.save_pretrained(tmp_path)
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    assert "lm_head.weight" not in tensors
    for i in range(2):
        tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 48, 48).tril()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ids = torch.randint(61, (2, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (load_model(tmp_path)(ids) - theirs(ids).logits).abs().max() < 1e-4


def test_the_dtype_is_that_of_the_file_or_the_one_asked_for(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    directory = save_model(model.to(torch.bfloat16), tokenizer, tmp_path / "model")
    assert json.loads((directory / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in load_model(directory).parameters()} == {torch.bfloat16}
    wide = load_model(directory, dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    assert torch.equal(wide.embed.tokens.weight, model.embed.tokens.weight.float())


def test_read_in_pieces_it_is_the_same(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = save_model(model, tokenizer, tmp_path / "model")
    for module in ("assembly", "weight_files"):
        monkeypatch.setattr(f"stemma.hub.{module}.BLOCK", 50)
    again = load_model(directory).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_a_loaded_model_no_longer_needs_its_file(saved: Path, ids: Tensor) -> None:
    model = load_model(saved)
    before = model(ids)
    with (saved / "model.safetensors").open("r+b") as file:
        file.write(bytes((saved / "model.safetensors").stat().st_size))
    assert torch.equal(model(ids), before)


def test_the_directory_is_complete(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "README.md",
        "SHA256SUMS",
    }
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_checksums_are_those_of_sha256sum(saved: Path) -> None:
    for line in (saved / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split("  ")
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == expected


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
def test_sha256sum_itself_agrees(saved: Path) -> None:
    told = subprocess.check_output(["sha256sum", "-c", "SHA256SUMS"], cwd=saved)
    assert b"model.safetensors: OK" in told


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_byte_is_noticed(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[-2] ^= 1
    (saved / name).write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    with pytest.raises(ModelError, match=f"(?s){name}: is damaged.*found {found}.*SHA256SUMS"):
        load_model(saved)


def test_a_lost_file_is_noticed(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"'model\.safetensors' is missing"):
        load_model(saved)


def test_a_truncated_file_without_checksums_is_noticed(saved: Path) -> None:
    (saved / "SHA256SUMS").unlink()
    load_model(saved)
    data = (saved / "model.safetensors").read_bytes()
    for length in (0, 5, 100, len(data) - 1):
        (saved / "model.safetensors").write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"not readable as safetensors"):
            load_model(saved)


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    (saved / "SHA256SUMS").unlink()
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "n_layer": 3}))
    with pytest.raises(ModelError, match=r"(?s)model: .*missing: transformer\.h\.2.*incomplete"):
        load_model(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "model_type = None is not known"),
        ('{"model_type": "rwkv"}', "model_type = 'rwkv' is not known"),
    ],
)
def test_a_bad_config_json_is_an_error(saved: Path, text: str, message: str) -> None:
    (saved / "SHA256SUMS").unlink()
    (saved / "config.json").write_text(text)
    with pytest.raises(ModelError, match=rf"config\.json: {message}"):
        load_model(saved)


def test_a_pickle_is_refused_with_the_reason_and_the_cure(saved: Path) -> None:
    (saved / "SHA256SUMS").unlink()
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"(?s)pytorch_model\.bin: .*any code.*save_pretrained"):
        load_model(saved)
    (saved / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"holds neither model\.safetensors nor"):
        load_model(saved)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"a": 1}}, "has no weight_map"),
        ({"weight_map": {"a": "../secret.safetensors"}}, "not a safetensors file beside it"),
        ({"weight_map": {"a": "model.bin"}}, "not a safetensors file beside it"),
        ({"weight_map": {"a": "model-2.safetensors"}}, "'model-2.safetensors', which is missing"),
        ({"weight_map": {"a": "model-1.safetensors"}}, "names 'a', which none of its files holds"),
    ],
)
def test_a_bad_index_is_an_error(saved: Path, index: dict[str, Any], message: str) -> None:
    (saved / "SHA256SUMS").unlink()
    (saved / "model.safetensors").rename(saved / "model-1.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=message):
        load_model(saved)


def test_nothing_is_overwritten_silently(saved: Path, tokenizer: Tokenizer) -> None:
    model = load_model(saved)
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match=r"(?s)a model is there already.*overwrite=True"):
        save_model(model, tokenizer, saved)
    assert (saved / "model.safetensors").read_bytes() == before
    with torch.no_grad():
        model.embed.tokens.weight += 1
    save_model(model, tokenizer, saved, overwrite=True)
    assert torch.equal(load_model(saved).embed.tokens.weight, model.embed.tokens.weight)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_what_is_not_a_model_is_never_replaced(saved: Path, tokenizer: Tokenizer) -> None:
    model = load_model(saved)
    thesis = saved.parent / "thesis"
    thesis.mkdir()
    save_model(model, tokenizer, thesis)
    shutil.rmtree(thesis)
    thesis.mkdir()
    (thesis / "chapter-1.tex").touch()
    for place in (thesis, thesis / "chapter-1.tex"):
        with pytest.raises(ModelError, match="is not a model directory"):
            save_model(model, tokenizer, place, overwrite=True)
    assert (thesis / "chapter-1.tex").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_nothing_and_loses_nothing(saved: Path, tokenizer: Tokenizer) -> None:
    import resource

    model = load_model(saved)
    before = (saved / "model.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError, match=r"(?s)cannot be written.*Free some space"):
            save_model(model, tokenizer, saved, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert (saved / "model.safetensors").read_bytes() == before


def test_what_cannot_be_saved_leaves_nothing(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    small = Transformer(model.config.replace(vocab_size=256))
    with pytest.raises(ModelError, match="the tokenizer has 257 ids, the model 256"):
        save_model(small, tokenizer, tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_dropout_is_not_kept(tokenizer: Tokenizer, tmp_path: Path, saved: Path) -> None:
    plain = load_model(saved)
    config = plain.config.replace(dropout=0.2, attention=AttentionConfig(n_heads=4, dropout=0.1))
    save_model(Transformer(config), tokenizer, tmp_path / "other")
    assert load_model(tmp_path / "other").config.dropout == 0.0
    assert load_model(tmp_path / "other").config.attention.dropout == 0.0
    assert json.loads((tmp_path / "other" / "config.json").read_text())["resid_pdrop"] == 0.0


def test_generation_defaults_and_card_are_written(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    card = ModelCard(
        "A small model",
        description="It continues text.",
        trained_on="Shakespeare, public domain.",
        results={"bits per byte | held-out": "2.05"},
        settings={"steps": "600"},
        licence="apache-2.0",
    )
    save_model(
        model, tokenizer, tmp_path / "model", card=card, generation={"temperature": 0.8, "top_k": 9}
    )
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "model")
    assert (theirs.temperature, theirs.top_k, theirs.eos_token_id) == (0.8, 9, 256)
    readme = (tmp_path / "model" / "README.md").read_text()
    assert readme.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n")
    assert "# A small model" in readme
    assert "Shakespeare, public domain." in readme
    assert "| bits per byte \\| held-out | 2.05 |" in readme
    save_model(model, tokenizer, tmp_path / "other", card="# Mine\n")
    assert (tmp_path / "other" / "README.md").read_text() == "# Mine\n"


def test_the_commands_of_the_card_run(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(saved)
    blocks = re.findall(r"```python\n(.*?)```", (saved / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace('"PATH"', '"."').replace("max_new_tokens=50", "max_new_tokens=2"), {})
    assert capsys.readouterr().out.startswith("Once")


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StemmaError, match=r"is not a model directory: it holds no config\.json"):
        load_model(tmp_path)


def test_other_tools_know_the_longest_text(saved: Path) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    context_length = load_model(saved).context_length
    assert theirs.model_max_length == context_length
    ids = theirs("a cat and a dog, " * 400, truncation=True)["input_ids"]
    assert len(ids) == context_length


def test_an_encoder_has_no_defaults_of_generating(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = preset("bert-base").replace(
        vocab_size=tokenizer.vocab_size, d_model=24, n_layers=1, context_length=8
    )
    place = save_model(Transformer(config), tokenizer, tmp_path / "encoder")
    assert not (place / "generation_config.json").exists()
    assert (place / "README.md").exists()


def test_others_may_read_the_weights_as_they_may_the_config(saved: Path) -> None:
    modes = {name: (saved / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert modes["config.json"] == modes["model.safetensors"]
