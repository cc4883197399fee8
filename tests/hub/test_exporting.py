"""Export: what transformers opens chats as the source did, and the card says where it is from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from typer.testing import CliRunner

from stemma.cli import build_app
from stemma.errors import ModelError
from stemma.hub import Manners, ModelCard, export, export_gguf, load, read_manners, save_model
from stemma.hub.exporting import written_as
from stemma.hub.manners import without_template
from stemma.models import Transformer, TransformerConfig, preset
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    PoolerConfig,
    RMSNormConfig,
    RotaryConfig,
)
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer, Tokenizer
from stemma.tokenizers.chat.template import CHATML

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MESSAGES = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return ByteLevelBPE.train(["the cat sat on the mat"] * 2, 262, special_tokens=SPECIAL)


@pytest.fixture
def source(tmp_path: Path, bpe: Tokenizer) -> Path:
    """A GGUF file of a small model that chats."""
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=bpe.vocab_size,
        context_length=64,
        d_model=32,
        n_layers=2,
        attention=AttentionConfig(n_heads=4, bias=False),
        feedforward=GatedMLPConfig(d_ff=64),
        norm=RMSNormConfig(),
        position=RotaryConfig(),
    )
    ids = bpe.special_tokens
    manners = Manners(
        bos=ids["<|im_start|>"],
        eos=(ids["<|im_end|>"],),
        pad=ids["<|endoftext|>"],
        chat_template=CHATML,
    )
    path = tmp_path / "chatty.gguf"
    return export_gguf(Transformer(config), bpe, path, dtype="f32", manners=manners, licence="mit")


def test_a_gguf_file_becomes_a_directory_that_chats_in_transformers(
    source: Path, tmp_path: Path, bpe: Tokenizer
) -> None:
    out = export(source, tmp_path / "out", to="hf")
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    text = theirs.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    assert theirs(text)["input_ids"] == bpe.encode(text, allowed_special="all").tolist()
    assert (theirs.bos_token, theirs.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert theirs.pad_token == "<|endoftext|>"
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert model.generation_config.eos_token_id == bpe.special_tokens["<|im_end|>"]
    ids = torch.tensor([theirs(text)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, load(source)[0](ids), rtol=1e-4, atol=1e-4)
    assert read_manners(out, bpe) == read_manners(source, bpe)
    assert "license: mit" in (out / "README.md").read_text()


@pytest.mark.slow
def test_smollm2_out_of_its_gguf_file_chats_in_transformers(smollm2: Path, tmp_path: Path) -> None:
    out = export(smollm2, tmp_path / "out", to="hf", dtype="bf16")
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**asked, max_new_tokens=30, do_sample=False)[
        0, asked.input_ids.shape[1] :
    ]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_there_and_back_to_the_bit(source: Path, tmp_path: Path) -> None:
    directory = export(source, tmp_path / "hf", to="hf")
    again = export(directory, tmp_path / "again.gguf", to="gguf", dtype="f32")
    before, after = load(source)[0].state_dict(), load(again)[0].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", "bfloat16"), ("f16", "float16")])
def test_types(source: Path, tmp_path: Path, dtype: str, expected: str) -> None:
    out = export(source, tmp_path / "out", to="hf", dtype=dtype)
    assert json.loads((out / "config.json").read_text())["dtype"] == expected
    assert next(load(out)[0].parameters()).dtype == getattr(torch, expected)
    for name, tensor in load(source, dtype=dtype)[0].state_dict().items():
        assert torch.equal(load(out)[0].state_dict()[name], tensor)
    with pytest.raises(ModelError, match=r"(?s)'q8_0' in a directory.*GGUF"):
        export(source, tmp_path / "other", to="hf", dtype="q8_0")


def test_the_card_of_the_source_is_kept(saved: Path, tmp_path: Path, ids: Tensor) -> None:
    model, tokenizer = load(saved)
    card = ModelCard("Nine", trained_on="nine books", results={"this model": "1.9 bits per byte"})
    own = save_model(model, tokenizer, tmp_path / "own", card=card, generation={"temperature": 0.7})
    out = export(own, tmp_path / "out", to="hf")
    said = (out / "README.md").read_text()
    assert said.startswith(card.markdown().rstrip())
    assert "Written by stemma" in said
    assert "`own`, as float32" in said
    assert str(tmp_path) not in said
    assert json.loads((out / "generation_config.json").read_text())["temperature"] == 0.7
    assert torch.equal(load(out)[0](ids), model(ids))


def test_what_is_there_stays(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing is overwritten silently"):
        export(saved, saved, to="hf")
    out = export(saved, tmp_path / "out", to="hf")
    assert export(saved, out, to="hf", overwrite=True) == out


def test_manners_of_a_directory(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    end = tokenizer.end_of_text
    assert read_manners(tmp_path, tokenizer) == without_template(tokenizer)
    (tmp_path / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    assert read_manners(tmp_path, tokenizer) == Manners(bos=1, eos=(2,), pad=2)
    said = {"eos_token_id": [3, 4, 10**6], "pad_token_id": "x", "temperature": 0.6, "_from": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}")
    assert read_manners(tmp_path, tokenizer) == Manners(
        bos=1, eos=(3, 4), pad=3, chat_template="{{ bos_token }}", generation={"temperature": 0.6}
    )
    assert Manners(eos=(3, 4)).ids() == {"eos_token_id": [3, 4]}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_manners(tmp_path, tokenizer)
    assert end is not None


def test_what_cannot_be_written_is_refused_before_anything_is_read(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemma.hub.exporting.find_model", lambda source: pytest.fail("read"))
    taken = tmp_path / "taken.gguf"
    taken.touch()
    for out, dtype, error in [
        (saved, None, "--overwrite"),
        (taken, None, "--overwrite"),
        (tmp_path / "new", "q9", "'q9' in a directory"),
        (tmp_path / "new.gguf", "q9", "There is f32, f16, bf16, q8_0, q4_0"),
    ]:
        with pytest.raises(ModelError) as caught:
            export("smollm2", out, dtype=dtype)
        assert error in str(caught.value)


def test_a_card_says_what_kind_of_model_it_is_for(tmp_path: Path, bpe: Tokenizer) -> None:
    bert = preset("bert-base").replace(
        vocab_size=bpe.vocab_size, d_model=24, n_layers=1, attention=AttentionConfig(n_heads=2)
    )
    encoder, cards = bert.replace(head=PoolerConfig(), tie_embeddings=False), {}
    for name, config in {"encoder": encoder, "masked": bert}.items():
        out = save_model(Transformer(config), bpe, tmp_path / name)
        cards[name] = (out / "README.md").read_text()
    assert "pipeline_tag: feature-extraction" in cards["encoder"]
    assert "import AutoModel, AutoTokenizer" in cards["encoder"]
    assert "pipeline_tag: fill-mask" in cards["masked"]
    assert "AutoModelForMaskedLM.from_pretrained" in cards["masked"]


def test_the_card_of_a_model_that_translates_opens_it_by_load_model() -> None:
    card = ModelCard("T5", pipeline="text2text-generation").markdown()
    assert "AutoModelForSeq2SeqLM.from_pretrained" in card
    assert 'from stemma import hub\n\nmodel = hub.load_model("PATH")' in card


def test_the_card_of_a_model_that_chats_asks_through_the_template(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export(source, tmp_path / "out")
    said = (out / "README.md").read_text()
    assert "from `chatty.gguf`, as float32. Where its numbers were rounded" in said
    theirs = re.findall(r"```python\n(.*?)```", said, re.DOTALL)[0]
    exec(theirs.replace('"PATH"', repr(str(out))).replace("tokens=50", "tokens=2"), {})
    assert capsys.readouterr().out.startswith("<|im_start|>user\nWhat is")


def test_the_command(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(build_app("export"), ["export", str(source), str(out)])
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.stdout
    assert re.search(rf"^written: {out} \(f32, [\d.]+ MB\)$", done.stdout, re.MULTILINE)
    assert f"next: stemma push {out}" in done.stdout
    arguments = ["export", str(source), str(tmp_path / "q.gguf"), "--dtype", "q8_0"]
    done = CliRunner().invoke(build_app("export"), arguments)
    assert f"next: llama-cli -m {tmp_path / 'q.gguf'}" in done.stdout
    size = (tmp_path / "q.gguf").stat().st_size / 1e6
    assert f"written: {tmp_path / 'q.gguf'} (q8_0, {size:.1f} MB)\n" in done.stdout
    assert load(tmp_path / "q.gguf")[0].config == load(source)[0].config
    CliRunner().invoke(build_app("export"), ["export", str(source), str(tmp_path / "h.gguf")])
    assert written_as(tmp_path / "h.gguf") == "f16"
    bf16 = export(source, tmp_path / "bf16", dtype="bf16")
    assert written_as(bf16) == "bf16"
    done = CliRunner().invoke(build_app("export"), ["export", str(source), "x", "--to", "onnx"])
    assert done.exit_code == 2
