"""GGUF files that we write: read again by us, and opened by llama.cpp with the same text."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError, TokenizerError
from stemma.hub import Manners, export_gguf, load, read_manners
from stemma.hub.gguf_model import load_gguf
from stemma.inference import generate
from stemma.models import LocalLayersConfig, Transformer, TransformerConfig
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    LinearScalingConfig,
    Llama3ScalingConfig,
    MLPConfig,
    RMSNormConfig,
    RotaryConfig,
    YarnScalingConfig,
)
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer
from stemma.tokenizers.formats.gguf import load_gguf as load_gguf_tokenizer

TEXT = ["the cat sat on the mat, and the cat ate 12 of 345 rats; \u4f60\u597d, e\u0301"] * 3
TOKENIZER = ByteLevelBPE.train(TEXT, 270, special_tokens=["<|endoftext|>"], allow_fewer=True)
NORM = RMSNormConfig(eps=1e-5)
NAMES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def config(family: str, **changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": TOKENIZER.vocab_size + 3,
        "context_length": 64,
        "d_model": 64,
        "n_layers": 2,
        "tie_embeddings": False,
    }
    if family == "gpt2":
        values |= {
            "attention": AttentionConfig(n_heads=4),
            "feedforward": MLPConfig(d_ff=96),
            "norm": LayerNormConfig(eps=1e-5),
            "position": LearnedPositionsConfig(),
        }
    else:
        values |= {
            "attention": AttentionConfig(
                n_heads=4,
                n_kv_heads=2,
                d_head={"llama": 16, "qwen2": None}.get(family, 32),
                bias="qkv" if family == "qwen2" else False,
                qk_norm=NORM if family == "qwen3" else None,
            ),
            "feedforward": GatedMLPConfig(d_ff=96),
            "norm": NORM,
            "position": RotaryConfig(theta=5000.0),
        }
    return TransformerConfig(**{**values, **changes})


def random_model(shape: TransformerConfig, dtype: torch.dtype = torch.float32) -> Transformer:
    model = Transformer(shape)
    noise = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        drawn = 0.2 * torch.randn(parameter.shape, generator=noise)
        drawn = 1 + drawn if "norm" in name and name.endswith("weight") else drawn
        parameter.data = drawn.to(dtype).float()
    return model.eval()


@settings(max_examples=40)
@given(
    family=st.sampled_from(NAMES),
    dtype=st.sampled_from(sorted(TYPES)),
    tied=st.booleans(),
    data=st.data(),
)
def test_round_trip_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    family: str,
    dtype: str,
    tied: bool,
    data: st.DataObject,
) -> None:
    """Numbers that the type can hold come back as they were, and so does the config."""
    scalings = [None, LinearScalingConfig(factor=2.0)]
    scalings += [Llama3ScalingConfig(factor=8.0, original_context=8192)]
    scalings += [YarnScalingConfig(factor=4.0, original_context=16)]
    changes: dict[str, Any] = {"tie_embeddings": tied}
    if family != "gpt2":
        scaling = data.draw(st.sampled_from(scalings))
        changes["position"] = RotaryConfig(theta=500_000.0, scaling=scaling)
    model = random_model(config(family, **changes), TYPES[dtype])
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    export_gguf(model, TOKENIZER, path, dtype=dtype)  # type: ignore[arg-type]
    again = load_gguf(path)
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    tokenizer = load_gguf_tokenizer(path)
    assert tokenizer.vocab_size == model.vocab_size  # llama.cpp wants a token for each row
    for text in TEXT:
        assert tokenizer.encode(text).tolist() == TOKENIZER.encode(text).tolist()


@pytest.mark.parametrize(("dtype", "steps"), [("q8_0", 127), ("q4_0", 7)])
def test_blocks_are_near(tmp_path: Path, dtype: Any, steps: int) -> None:
    model = random_model(config("llama"))
    again = load_gguf(export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype=dtype)).state_dict()
    for name, tensor in model.state_dict().items():
        n = 127 if name in ("embed.tokens.weight", "head.weight") else steps
        error = (again[name] - tensor).abs().max() / tensor.abs().max()
        assert error <= (1.2 / n if tensor.ndim == 2 else 0), name
        assert tensor.ndim == 1 or error > 0


def llama_cpp_logits(path: Path, ids: list[int]) -> torch.Tensor:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python (extra: oracles)")
    llama = llama_cpp.Llama(
        str(path), n_ctx=64, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )
    llama.eval(ids)
    return torch.tensor(np.array(llama.scores[: len(ids)]))


def divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest KL of a position, in nats."""
    p, q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).max())


@pytest.mark.parametrize("family", NAMES)
def test_llama_cpp_has_our_logits(tmp_path: Path, family: str) -> None:
    scaling = LinearScalingConfig(factor=2.0) if family == "qwen3" else None
    changes = {} if family == "gpt2" else {"position": RotaryConfig(scaling=scaling)}
    model = random_model(config(family, **changes))
    path = export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype="f32")
    ids = TOKENIZER.encode("the cat sat on 12 rats").tolist()
    theirs = llama_cpp_logits(path, ids)
    with torch.no_grad():
        ours = model(torch.tensor([ids], dtype=torch.long))[0]
        # Its GELU is a table in float16.
        allowed, most = (5e-3, 1e-5) if family == "gpt2" else (1e-4, 1e-8)
        torch.testing.assert_close(theirs, ours, rtol=allowed, atol=allowed)
        assert divergence(ours, theirs) < most
        rows = model.get_parameter("blocks.0.attention.k_proj.weight")
        rows.data = rows.flip(0)
        assert divergence(model(torch.tensor([ids], dtype=torch.long))[0], theirs) > 1e-3


@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
@pytest.mark.parametrize("family", NAMES)
def test_transformers_reads_it_as_we_do(tmp_path: Path, family: str, dtype: Any) -> None:
    # It takes a GPT-2's context and inner width, and a Qwen3's heads, for those that are usual.
    changes: dict[str, Any] = {"d_model": 128, "tie_embeddings": True}
    if family == "gpt2":
        changes |= {"context_length": 1024, "feedforward": MLPConfig()}
    if family == "qwen3":
        attention = AttentionConfig(n_heads=4, n_kv_heads=2, d_head=128, bias=False, qk_norm=NORM)
        changes["attention"] = attention
    model = random_model(config(family, **changes))
    path = export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype=dtype)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).eval()
    ids = torch.randint(200, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, others = load_gguf(path)(ids), theirs(ids).logits
    torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-4)


def test_llama_cpp_adds_biases_as_we_do(tmp_path: Path) -> None:
    attention = AttentionConfig(n_heads=4, n_kv_heads=2, d_head=16, bias=True)
    feedforward = GatedMLPConfig(d_ff=96, bias=True)
    model = random_model(config("llama", attention=attention, feedforward=feedforward))
    path = export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype="f32")
    assert load_gguf(path).config == model.config
    ids = TOKENIZER.encode("the cat sat on 12 rats").tolist()
    with torch.no_grad():
        ours = model(torch.tensor([ids], dtype=torch.long))[0]
    assert divergence(ours, llama_cpp_logits(path, ids)) < 1e-8


def test_what_the_file_cannot_say_is_refused(tmp_path: Path) -> None:
    biased = AttentionConfig(n_heads=4, d_head=32, bias=True, qk_norm=NORM)
    with pytest.raises(ModelError, match="a qwen3 cannot say attention_bias = True"):
        export_gguf(random_model(config("qwen3", attention=biased)), TOKENIZER, tmp_path / "a")
    narrow = config("mistral", local=LocalLayersConfig(window=8))
    with pytest.raises(ModelError, match="cannot say sliding_window = 8"):
        export_gguf(random_model(narrow), TOKENIZER, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_stories260k_tells_its_story_there(tmp_path: Path, mirror: Callable[[str], Path]) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python (extra: oracles)")
    model, tokenizer = load(mirror("weights/stories260K"))
    manners = read_manners(mirror("weights/stories260K/stories260K.bin"), tokenizer)
    path = export_gguf(model, tokenizer, tmp_path / "m.gguf", dtype="f32", manners=manners)
    llama = llama_cpp.Llama(str(path), n_ctx=128, verbose=False, n_threads=1)
    done = llama.create_completion("Zoo", max_tokens=60, temperature=0.0, repeat_penalty=1.0)
    ours = generate((model, tokenizer), "Zoo", max_new_tokens=60, temperature=0.0)
    assert done["choices"][0]["text"] == ours.text
    assert ours.text.startswith(" was a little girl named Lily.")


@pytest.mark.parametrize(
    "scaling",
    [
        Llama3ScalingConfig(factor=8.0, original_context=8192),
        YarnScalingConfig(factor=4.0, original_context=16),
    ],
    ids=lambda scaling: scaling.kind,
)
def test_llama_cpp_scales_positions_as_we_do(tmp_path: Path, scaling: Any) -> None:
    position = RotaryConfig(theta=500.0, scaling=scaling)
    model = random_model(config("llama", position=position))
    path = export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype="f32")
    ids = (TOKENIZER.encode("the cat sat on 12 rats").tolist() * 4)[:40]
    with torch.no_grad():
        ours = model(torch.tensor([ids], dtype=torch.long))[0]
    assert divergence(ours, llama_cpp_logits(path, ids)) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q5_1", "Q4_1"])
def test_what_llama_cpp_quantises_is_read_alike(tmp_path: Path, kind: str) -> None:
    """Its own mixture of blocks; it multiplies in 8 bits, so the logits are near, not equal."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python (extra: oracles)")
    model = random_model(
        config("llama", d_model=256, attention=AttentionConfig(n_heads=4, bias=False),
               feedforward=GatedMLPConfig(d_ff=512))
    )  # fmt: skip
    whole = export_gguf(model, TOKENIZER, tmp_path / "whole.gguf", dtype="f32")
    path = tmp_path / f"{kind}.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    code = llama_cpp.llama_model_quantize(
        str(whole).encode(), str(path).encode(), ctypes.byref(parameters)
    )
    assert code == 0
    ids = TOKENIZER.encode("the cat sat on 12 rats").tolist()
    row = torch.tensor([ids], dtype=torch.long)
    with torch.no_grad():
        ours, before = load_gguf(path)(row)[0], model(row)[0]
    theirs = llama_cpp_logits(path, ids)
    assert divergence(theirs, ours) < 0.2 * divergence(theirs, before) + 1e-3
    assert divergence(theirs, before) > 1e-4


def test_a_width_that_follows_from_another_is_written_out(tmp_path: Path) -> None:
    model = random_model(config("gpt2", feedforward=MLPConfig()))
    again = load_gguf(export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype="f32"))
    assert again.config == model.config.replace(feedforward=MLPConfig(d_ff=256))


def test_manners_go_with_it(tmp_path: Path) -> None:
    manners = Manners(bos=3, eos=(5, 6), pad=7, chat_template="{{ messages[0].content }}")
    model = random_model(config("qwen3"))
    path = export_gguf(model, TOKENIZER, tmp_path / "m.gguf", manners=manners, licence="mit")
    found = read_manners(path, load_gguf_tokenizer(path))
    assert (found.bos, found.eos, found.pad) == (3, (5,), 7)
    assert found.chat_template == manners.chat_template


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        ("f32", 3.4e38),
        ("bf16", 3.38e38),
        ("f16", 65_519),
        ("q8_0", 127 * 65_519),
        ("q4_0", 524_152),
    ],
)
def test_numbers_that_a_type_cannot_hold_are_refused(
    tmp_path: Path, dtype: Any, largest: float
) -> None:
    """float16 ends at 65,504, to which 65,519 is rounded; so do the scales of blocks."""
    model, path = random_model(config("llama")), tmp_path / "m.gguf"
    weight = model.blocks[1].feedforward.up_proj.weight  # type: ignore[union-attr]
    weight.data[3, 5] = largest
    export_gguf(model, TOKENIZER, path, dtype=dtype)
    read = load_gguf(path).state_dict()["blocks.1.feedforward.up_proj.weight"]
    assert read.isfinite().all()
    assert read[3, 5] == pytest.approx(largest, rel=0.01)
    before = path.read_bytes()
    wrong = [(math.nan, "NaN"), (-math.inf, "infinity")]
    wrong += [] if dtype == "f32" else [(min(1.01 * largest, 3.4e38), "bf16")]
    for number, said in wrong:
        weight.data[3, 5] = -number
        with pytest.raises(ModelError, match=rf"(?s)blk\.1\.ffn_up\.weight.*{said}"):
            export_gguf(model, TOKENIZER, path, dtype=dtype, overwrite=True)
        assert path.read_bytes() == before
        assert [*tmp_path.iterdir()] == [path]


def test_a_vector_of_nan_is_refused(tmp_path: Path) -> None:
    model = random_model(config("gpt2"))
    model.final_norm.bias.data[0] = math.nan  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match=r"output_norm\.bias holds NaN"):
        export_gguf(model, TOKENIZER, tmp_path / "m.gguf", dtype="q8_0")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    model, path = random_model(config("llama")), tmp_path / "m.gguf"
    with pytest.raises(TokenizerError, match="ByteTokenizer cannot be written"):
        export_gguf(random_model(config("llama")), ByteTokenizer(), path)
    with pytest.raises(ModelError, match=r"(?s)dtype = 'q3'.*f32, f16"):
        export_gguf(model, TOKENIZER, path, dtype="q3")  # type: ignore[arg-type]
    gelu = config("llama", feedforward=GatedMLPConfig(d_ff=96, activation="gelu"))
    with pytest.raises(ModelError, match=r"llama\.cpp has silu there, not gelu"):
        export_gguf(random_model(gelu), TOKENIZER, path)
    with pytest.raises(ModelError, match=r"tokenizer has 2\d\d ids, the model 20"):
        export_gguf(random_model(config("llama", vocab_size=20)), TOKENIZER, path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"mine")
    with pytest.raises(ModelError, match="nothing is overwritten silently"):
        export_gguf(model, TOKENIZER, path)
    assert path.read_bytes() == b"mine"
    export_gguf(model, TOKENIZER, path, overwrite=True)
    assert load_gguf(path).config == model.config
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]
    with pytest.raises(ModelError, match="cannot be written"):
        export_gguf(model, TOKENIZER, path / "under" / "a.gguf")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_smollm2_writes_the_same_text_there(tmp_path: Path, smollm2: Path, dtype: Any) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python (extra: oracles)")
    model, tokenizer = load(smollm2)
    manners = read_manners(smollm2, tokenizer)
    path = export_gguf(model, tokenizer, tmp_path / "m.gguf", dtype=dtype, manners=manners)
    del model
    ours, again = load(path)
    assert again.fingerprint == tokenizer.fingerprint
    asked = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(asked, allowed_special="all").tolist()
    expected = list(generate((ours, again), ids, max_new_tokens=24, temperature=0.0).ids)
    llama = llama_cpp.Llama(str(path), n_ctx=128, verbose=False, n_threads=1)
    assert (llama.token_bos(), llama.token_eos()) == (1, 2)
    assert llama.metadata["tokenizer.chat_template"] == manners.chat_template
    found = []
    for id_ in llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        found.append(id_)
        if len(found) == 24 or id_ == 2:
            break
    assert found == expected[: len(found)]
    assert "Paris" in again.decode(found)
