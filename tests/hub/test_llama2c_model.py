"""Models of llama2.c: the text that ``run.c`` writes, transformers on the same numbers, damage."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemma.errors import ModelError, StemmaError
from stemma.hub import load, load_tokenizer
from stemma.hub.llama2c_model import MAGIC, load_llama2c, read_header, tokenizer_beside
from stemma.inference import generate

ZOO = (  # github.com/ytmytm/llama2.c64 prints it for `run stories260K.bin -z tok512.bin -t 0`
    "Zoo was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but she didn't want to play with"
)
LAYER = ("wq", "wk", "wv", "wo")


def random_llama(
    *, tied: bool = True, n_kv_heads: int = 2, n_layers: int = 2, seed: int = 0
) -> transformers.LlamaForCausalLM:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=19,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=11,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=tied,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape)
    return model


def neighbours(rows: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Rows in Meta's order: what stands half a head apart become neighbours."""
    d_head = rows.shape[0] // n_heads
    order = [h * d_head + half * d_head // 2 + i for h, i, half in
             product(range(n_heads), range(d_head // 2), range(2))]  # fmt: skip
    return rows[order]


def parts(model: transformers.LlamaForCausalLM) -> dict[str, list[NDArray[np.float32]]]:
    """llama2.c's name -> the arrays of all layers."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    n = model.config.num_hidden_layers
    heads = {"wq": model.config.num_attention_heads, "wk": model.config.num_key_value_heads}
    names = {
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        **{f"w{x}": f"self_attn.{x}_proj" for x in "qkvo"},
        "w1": "mlp.gate_proj",
        "w2": "mlp.down_proj",
        "w3": "mlp.up_proj",
    }
    found = {
        ours: [state[f"model.layers.{i}.{theirs}.weight"] for i in range(n)]
        for ours, theirs in names.items()
    }
    for name, n_heads in heads.items():
        found[name] = [neighbours(rows, n_heads) for rows in found[name]]
    found["embedding"] = [state["model.embed_tokens.weight"]]
    found["norm"] = [state["model.norm.weight"]]
    found["output"] = [state["lm_head.weight"]]
    return found


def numbers(model: transformers.LlamaForCausalLM, *, signed: bool) -> list[int]:
    c = model.config
    vocab = -c.vocab_size if signed and not c.tie_word_embeddings else c.vocab_size
    sizes = [c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads]
    return [*sizes, c.num_key_value_heads, vocab, c.max_position_embeddings]


def write(path: Path, model: transformers.LlamaForCausalLM, version: int, group: int = 16) -> Path:
    """A file as ``export.py`` writes it."""
    found, tied = parts(model), model.config.tie_word_embeddings
    head = [] if tied else ["output"]
    if version == 0:
        angles = np.zeros((11, 8), np.float32)
        found["angles"] = [angles]
        order = ["embedding", "attention_norm", *LAYER, "ffn_norm", "w1", "w2", "w3", "norm"]
        order += ["angles", *head]
        data = struct.pack("<7i", *numbers(model, signed=True))
    else:
        order = ["attention_norm", "ffn_norm", "norm", "embedding", *LAYER, "w1", "w2", "w3", *head]
        data = struct.pack("<Ii7iB", 0x616B3432, version, *numbers(model, signed=False), tied)
        data += struct.pack("<i", group) if version == 2 else b""
        data = data.ljust(256, b"\0")
    for name in order:
        for array in found[name]:
            data += quantised(array, group) if version == 2 and array.ndim == 2 else array.tobytes()
    path.write_bytes(data)
    return path


def quantised(array: NDArray[np.float32], group: int) -> bytes:
    rows = array.reshape(-1, group)
    scales = np.abs(rows).max(1) / np.float32(127)
    whole = np.round(rows / scales[:, None]).astype(np.int8)
    return whole.tobytes() + scales.astype("<f4").tobytes()


@settings(max_examples=15, deadline=None)
@given(
    version=st.sampled_from([0, 1]),
    theirs=st.builds(
        random_llama,
        tied=st.booleans(),
        n_kv_heads=st.sampled_from([1, 2, 4]),
        n_layers=st.integers(1, 3),
        seed=st.integers(0, 99),
    ),
)
def test_logits_are_those_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, version: int, theirs: transformers.LlamaForCausalLM
) -> None:
    path = write(tmp_path_factory.mktemp("bin") / "m.bin", theirs, version)
    ids = torch.randint(19, (2, 11), generator=torch.Generator().manual_seed(1))
    ours = load_llama2c(path)
    with torch.no_grad():
        logits, expected = ours(ids), theirs(ids).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert divergence(expected, logits) < 1e-6
        rows = ours.get_parameter("blocks.0.attention.q_proj.weight")
        rows.data = rows.flip(0)
        assert divergence(expected, ours(ids)) > 1e-3


def divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest KL of a position, in nats."""
    p, q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).max())


@pytest.mark.parametrize("tied", [True, False])
def test_groups_of_bytes_are_what_they_stand_for(tmp_path: Path, tied: bool) -> None:
    theirs = random_llama(tied=tied)
    read = load_llama2c(write(tmp_path / "m.bin", theirs, 2)).state_dict()
    whole = load_llama2c(write(tmp_path / "whole.bin", theirs, 1)).state_dict()
    for name, tensor in whole.items():
        if tensor.ndim == 1:
            assert torch.equal(read[name], tensor)
            continue
        step = tensor.reshape(-1, 16).abs().amax(1, keepdim=True) / 127
        error = read[name] - tensor
        if (
            "q_proj" in name or "k_proj" in name
        ):  # the groups run along rows, which have moved whole
            error = error.reshape(-1, 16)
        assert bool((error.reshape(-1, 16).abs() <= 0.51 * step).all()), name


@pytest.mark.parametrize("version", [0, 1, 2])
def test_read_in_pieces_it_is_the_same(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.bin", random_llama(), version)
    whole = load_llama2c(path).state_dict()
    monkeypatch.setattr("stemma.hub.assembly.BLOCK", 100)
    for name, tensor in load_llama2c(path).state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_another_type(tmp_path: Path) -> None:
    path = write(tmp_path / "m.bin", random_llama(), 0)
    half = load_llama2c(path, dtype=torch.bfloat16).state_dict()
    for name, tensor in load_llama2c(path).state_dict().items():
        assert torch.equal(half[name], tensor.bfloat16())


def test_stories260k_word_for_word(mirror: Callable[[str], Path]) -> None:
    folder = mirror("weights/stories260K")
    for place in (folder, folder / "stories260K.bin", "stories260K"):
        model, tokenizer = load(place)
        found = generate((model, tokenizer), "Zoo", max_new_tokens=100, temperature=0.0)
        assert (found.prompt + found.text).startswith(ZOO)
    assert load_tokenizer("stories260K").fingerprint == tokenizer.fingerprint


def test_stories15m_is_that_of_transformers(mirror: Callable[[str], Path]) -> None:
    path = mirror("weights/stories15M/stories15M.bin")
    model, tokenizer = load("stories15M")
    header = struct.unpack("<7i", path.open("rb").read(28))
    d, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, context = header
    data, at = np.fromfile(path, "<f4", offset=28), 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal at
        at += int(np.prod(shape))
        return torch.tensor(data[at - int(np.prod(shape)) : at].reshape(shape))

    kv = d // n_heads * n_kv_heads
    shapes = {"attention_norm": (d,), "wq": (d, d), "wk": (kv, d), "wv": (kv, d), "wo": (d, d)}
    shapes |= {"ffn_norm": (d,), "w1": (d_ff, d), "w2": (d, d_ff), "w3": (d_ff, d)}
    embedding = take(vocab_size, d)
    layers = {name: take(n_layers, *shape) for name, shape in shapes.items()}

    def rows(tensor: torch.Tensor, heads: int) -> torch.Tensor:
        return tensor.view(heads, d // n_heads // 2, 2, d).permute(0, 2, 1, 3).reshape(-1, d)

    config = transformers.LlamaConfig(
        vocab_size=vocab_size, hidden_size=d, intermediate_size=d_ff, num_hidden_layers=n_layers,
        num_attention_heads=n_heads, num_key_value_heads=n_kv_heads, rms_norm_eps=1e-5,
        max_position_embeddings=context, rope_theta=10_000.0, tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    state = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}
    state["model.norm.weight"] = take(d)
    for i in range(n_layers):
        of = {name: tensor[i] for name, tensor in layers.items()}
        for name, tensor in {
            "input_layernorm": of["attention_norm"],
            "post_attention_layernorm": of["ffn_norm"],
            "self_attn.q_proj": rows(of["wq"], n_heads),
            "self_attn.k_proj": rows(of["wk"], n_kv_heads),
            "self_attn.v_proj": of["wv"],
            "self_attn.o_proj": of["wo"],
            "mlp.gate_proj": of["w1"],
            "mlp.down_proj": of["w2"],
            "mlp.up_proj": of["w3"],
        }.items():
            state[f"model.layers.{i}.{name}.weight"] = tensor
    theirs.load_state_dict(state)
    ids = torch.tensor([tokenizer.encode("Once upon a time", add_special_tokens=True).tolist()])
    for _ in range(40):
        with torch.no_grad():
            ours, others = model(ids), theirs(ids).logits
        torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-3)
        ids = torch.cat([ids, ours[:, -1:].argmax(-1)], 1)
    text = tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)
    assert text.startswith("Once upon a time, there was a little girl named Lily.")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_cut_off_anywhere(tmp_path: Path, version: int) -> None:
    whole = write(tmp_path / "m.bin", random_llama(), version).read_bytes()
    path = tmp_path / "cut.bin"
    for data in (whole[:-1], whole + b"\0", *(whole[:n] for n in range(0, len(whole), 331))):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"cut\.bin: is not a model of llama2\.c, or is dama"):
            load_llama2c(path)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("field", range(7))
@pytest.mark.parametrize("value", [0, -1, 1, 3, 2**31 - 1, -(2**31)])
def test_a_header_that_lies(tmp_path: Path, version: int, field: int, value: int) -> None:
    path = write(tmp_path / "m.bin", random_llama(), version)
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 4 * field + (8 if version else 0), value)
    path.write_bytes(data)
    if version == 1 and field == 6 and 0 < value < 2**24:  # nothing in the file depends on it
        assert load_llama2c(path).config.context_length == value
        return
    with pytest.raises(ModelError, match=r"m\.bin: (is not a model of llama2|max_position.*2147)"):
        load_llama2c(path)


@pytest.mark.parametrize(("at", "value"), [(4, 3), (4, -1), (37, 0), (37, -16), (37, 7)])
def test_another_version_or_group(tmp_path: Path, at: int, value: int) -> None:
    path = write(tmp_path / "m.bin", random_llama(), 2)
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, at, value)
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"version|groups of"):
        load_llama2c(path)


def test_scales_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "m.bin", random_llama(), 2)
    data = bytearray(path.read_bytes())
    norms = 256 + 4 * 32 * 5
    data[norms + 19 * 32 : norms + 19 * 32 + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.bin: its scales are no scales"):
        load_llama2c(path)


class Evil:
    """A pickle of this writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", 2, 4, 5])
def test_a_pickle_is_refused_and_not_opened(tmp_path: Path, form: str | int) -> None:
    path, sign = tmp_path / "pytorch_model.bin", tmp_path / "opened"
    if isinstance(form, int):
        path.write_bytes(pickle.dumps([Evil(sign), b"0" * 300], protocol=form))
    else:
        torch.save([Evil(sign)] * 20, path, _use_new_zipfile_serialization=form == "zip")
    for read in (load, load_llama2c, load_tokenizer):
        with pytest.raises(StemmaError, match=r"(?s)pytorch_model\.bin: is (a pickle|no)"):
            read(path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"(?s)is a pickle.*never reads one.*safetensors"):
        load(tmp_path)
    assert not sign.exists()


def test_a_width_that_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    """640 features are 80 02 00 00 in the file, and a pickle begins with 80 02."""
    sizes = (640, 1, 1, 1, 1, 1, 1)
    n = 640 + 640 + 4 * 640 * 640 + 640 + 3 * 640 + 640 + 640
    path = tmp_path / "m.bin"
    path.write_bytes(struct.pack("<7i", *sizes) + bytes(4 * n))
    assert path.read_bytes()[:2] == b"\x80\2"
    assert read_header(path).d_model == 640
    assert not path.read_bytes().startswith(MAGIC)


def test_the_tokenizer_must_be_there_and_fit(tmp_path: Path, mirror: Callable[[str], Path]) -> None:
    path = write(tmp_path / "m.bin", random_llama(), 0)
    with pytest.raises(ModelError, match=r"(?s)no tokenizer beside it: neither tok19\.bin nor tok"):
        load(path)
    tokens = mirror("weights/stories260K/tok512.bin").read_bytes()
    (tmp_path / "tokenizer.bin").write_bytes(tokens)
    with pytest.raises(ModelError, match=r"(?s)tokenizer\.bin: has 512 ids, the model 19"):
        tokenizer_beside(path)
    with pytest.raises(ModelError, match="has 512 ids"):
        load(tmp_path)
