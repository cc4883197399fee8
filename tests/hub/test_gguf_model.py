"""Models in GGUF files: against transformers' reading of the same bytes, llama.cpp, and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.hub.gguf_model import load_gguf
from stemma.hub.gguf_weights import QUANTISED
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    Llama3ScalingConfig,
    RMSNormConfig,
    RotaryConfig,
)

OF_A_LAYER = {
    "norm1": "attn_norm",
    "norm2": "ffn_norm",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "feedforward.gate_proj": "ffn_gate",
    "feedforward.up_proj": "ffn_up",
    "feedforward.down_proj": "ffn_down",
}


def random_model(config: TransformerConfig, seed: int = 0) -> Transformer:
    model = Transformer(config)
    noise = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=noise)
    return model.eval()


def name_there(name: str) -> str:
    """The name in a GGUF file of a parameter of ours."""
    whole = {"embed.tokens": "token_embd", "final_norm": "output_norm", "head": "output"}
    part, _, last = name.rpartition(".")
    if part in whole:
        return f"{whole[part]}.{last}"
    _, layer, rest = part.split(".", 2)
    return f"blk.{layer}.{OF_A_LAYER[rest]}.{last}"


def write(
    path: Path,
    model: Transformer,
    architecture: str,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    **changes: Any,
) -> Path:
    """A GGUF file as llama.cpp's converter would write it."""
    config = model.config
    attention = config.attention
    writer = gguf.GGUFWriter(path, architecture)
    values: dict[str, Any] = {
        "context_length": config.context_length,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.feedforward.d_ff,
        "attention.head_count": attention.n_heads,
        "attention.head_count_kv": attention.n_kv_heads,
        "attention.key_length": attention.head_size(config.d_model),
        "attention.value_length": attention.head_size(config.d_model),
        "attention.layer_norm_rms_epsilon": config.norm.eps,
        "rope.dimension_count": attention.head_size(config.d_model),
        "rope.freq_base": config.position.theta,
        "vocab_size": config.vocab_size,
        **changes,
    }
    for name, value in values.items():
        if value is not None:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            add[type(value)](f"{architecture}.{name}", value)
    for name, tensor in model.state_dict().items():
        if name == "head.weight" and config.tie_embeddings:
            continue
        array = tensor.detach().numpy()
        heads = {"q_proj": attention.n_heads, "k_proj": attention.n_kv_heads}
        part = name.split(".")[-2]
        if architecture == "llama" and part in heads:  # the converter's order of rows
            halves = array.reshape(heads[part], 2, -1, *array.shape[1:])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        if array.ndim == 2 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(name_there(name), quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name_there(name), array.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny(architecture: str, **changes: Any) -> TransformerConfig:
    norm = RMSNormConfig(eps=1e-5)
    bias = {"llama": False, "qwen2": "qkv", "qwen3": False}[architecture]
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 32,
        "n_layers": 2,
        "attention": AttentionConfig(
            n_heads=4,
            n_kv_heads=2,
            d_head={"llama": 8, "qwen2": None, "qwen3": 128}[architecture],
            bias=bias,
            qk_norm=norm if architecture == "qwen3" else None,
        ),
        "feedforward": GatedMLPConfig(d_ff=64),
        "norm": norm,
        "position": RotaryConfig(theta=500.0),
        "tie_embeddings": False,
    }
    return TransformerConfig(**{**values, **changes})


ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])


@pytest.mark.parametrize("tied", [True, False])
@ARCHITECTURES
def test_plain_numbers_come_back_to_the_bit(tmp_path: Path, architecture: str, tied: bool) -> None:
    model = random_model(tiny(architecture, tie_embeddings=tied))
    read = load_gguf(write(tmp_path / "m.gguf", model, architecture))
    assert read.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    assert not read.training


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_blocks_are_near_what_they_were(tmp_path: Path, kind: str) -> None:
    model = random_model(tiny("llama"))
    written = write(tmp_path / "m.gguf", model, "llama", GGMLQuantizationType[kind])
    read = load_gguf(written).state_dict()
    step = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 127}.get(kind, 1 / 7)
    for name, tensor in model.state_dict().items():
        largest = float(tensor.abs().max())
        assert float((read[name] - tensor).abs().max()) <= step * largest, name
        assert tensor.ndim == 1 or not torch.equal(read[name], tensor)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_logits_are_those_of_transformers_from_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Its own reader dequantises and puts rows in order."""
    architecture = data.draw(st.sampled_from(["llama", "qwen2", "qwen3"]))
    kind = data.draw(st.sampled_from([GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0]))
    model = random_model(tiny(architecture), data.draw(st.integers(0, 99)))
    path = write(tmp_path_factory.mktemp("gguf") / "m.gguf", model, architecture, kind)
    family = FAMILIES[architecture]
    theirs = getattr(transformers, family.architecture).from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    ids = torch.randint(23, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, others = load_gguf(path)(ids), theirs.eval()(ids).logits
    torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [1.0, 1.01])
def test_scaling_of_llama3_is_recognised_and_no_other_taken_for_it(
    tmp_path: Path, change: float
) -> None:
    scaling = Llama3ScalingConfig(factor=8, original_context=8192)
    config = tiny("llama", position=RotaryConfig(theta=500_000.0, scaling=scaling))
    plain = 500_000.0 ** -(torch.arange(0, 8, 2) / 8)
    divisors = (plain / scaling.scale(plain, 500_000.0)).numpy().astype(np.float32)
    divisors[1] *= change
    kept = gguf.GGUFWriter.write_header_to_file

    def with_divisors(writer: gguf.GGUFWriter, *arguments: Any) -> None:
        writer.add_tensor("rope_freqs.weight", divisors)
        kept(writer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_header_to_file", with_divisors)
        path = write(tmp_path / "m.gguf", random_model(config), "llama")
    if change == 1:
        assert load_gguf(path).config == config
        return
    with pytest.raises(ModelError, match="scales rotary positions"):
        load_gguf(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention.head_count": 0}, "num_attention_heads"),
        ({"attention.head_count": 3}, "n_heads"),
        ({"block_count": 3}, "missing"),
        ({"block_count": 1}, "not part of this model"),
        ({"embedding_length": 64}, "shape"),
        ({"context_length": None}, "context_length"),
        ({"rope.dimension_count": 4}, "rope.dimension_count = 4"),
        ({"expert_count": 8}, "expert_count = 8"),
        ({"attention.sliding_window": 4}, "sliding_window = 4"),
        ({"rope.scaling.type": "longrope"}, "longrope"),
        ({"rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier = 0.1"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "m.gguf", random_model(tiny("llama")), "llama", **changes)
    with pytest.raises(ModelError) as caught:
        load_gguf(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "config.json" not in str(caught.value)


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", random_model(tiny("llama")), "falcon")
    with pytest.raises(ModelError, match=r"(?s)'falcon'.*llama.*qwen2, qwen3 and gpt2"):
        load_gguf(path)


def test_a_quantisation_that_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", random_model(tiny("llama")), "llama")
    data = bytearray(path.read_bytes())
    at = data.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    data[at : at + 4] = int(GGMLQuantizationType.IQ4_XS).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"(?s)IQ4_XS.*Q4_0"):
        load_gguf(path)
    assert "IQ4_XS" not in QUANTISED


def offset_of(data: bytes, name: bytes) -> int:
    """Where a file says at which byte of its data a matrix begins."""
    return data.index(name) + len(name) + 4 + 2 * 8 + 4


@settings(max_examples=30)
@given(names=st.permutations(["attn_q", "ffn_gate", "ffn_down", "attn_v"]), far=st.floats(0, 0.99))
def test_tensors_that_share_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], far: float
) -> None:
    """One of them is moved to where another stands, or into it."""
    path = tmp_path_factory.mktemp("shared") / "m.gguf"
    data = bytearray(write(path, random_model(tiny("llama")), "llama").read_bytes())
    one, other = (f"blk.1.{name}.weight".encode() for name in names[:2])
    at, source = offset_of(data, one), offset_of(data, other)
    n_bytes = 4 * 32 * (64 if b"ffn" in other else 16 if b"attn_v" in other else 32)
    start = int.from_bytes(data[source : source + 8], "little") + int(far * n_bytes) // 32 * 32
    data[at : at + 8] = start.to_bytes(8, "little")
    path.write_bytes(data + bytes(1 << 14))  # so that nothing lies behind the end
    with pytest.raises(ModelError, match="is damaged") as caught:
        load_gguf(path)
    assert "begins at" in str(caught.value)
    assert "blk.1." in str(caught.value)


def test_one_matrix_for_all_layers_is_refused(tmp_path: Path) -> None:
    """A file of a few kilobytes could else announce any size."""
    path = write(tmp_path / "m.gguf", random_model(tiny("llama")), "llama")
    data = bytearray(path.read_bytes())
    first, second = (offset_of(data, b"blk.%d.ffn_up.weight" % i) for i in range(2))
    data[second : second + 8] = data[first : first + 8]
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_up\.weight ends.*blk\.1\.ffn_up\.weight"):
        load_gguf(path)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", random_model(tiny("llama")), "llama")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"))
    with pytest.raises(ModelError, match=r"two tensors named blk\.0\.ffn_up\.weight"):
        load_gguf(path)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.gguf", random_model(tiny("llama")), "llama").read_bytes()
    path = tmp_path / "cut.gguf"
    for end in [*range(0, 3000, 61), *range(3000, len(whole) - 1, 4001), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            load_gguf(path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_an_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray(write(folder / "m.gguf", random_model(tiny("llama")), "llama").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    (folder / "m.gguf").write_bytes(whole)
    said = ""
    try:
        load_gguf(folder / "m.gguf")
    except ModelError as error:
        said = str(error)
    assert not said or str(folder / "m.gguf") in said
