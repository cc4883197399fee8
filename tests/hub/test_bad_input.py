"""Weights that are damaged or lie: always an error of ours, never a crash, no code is run."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stemma.errors import ConfigError, ModelError, StemmaError
from stemma.hub import load_model, save_model
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig
from stemma.tokenizers import ByteTokenizer

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bare(saved: Path) -> Path:
    """A model directory without checksums, as others write it."""
    (saved / "SHA256SUMS").unlink()
    return saved


def rewrite_header(directory: Path, change: Change) -> None:
    """Change what a safetensors file says of its tensors, and leave their bytes."""
    path = directory / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + data[8 + size :])


NAME = "transformer.wte.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[NAME].update(shape=[2**40, 2**40]),
        lambda header: header[NAME].update(shape=[-1, 24]),
        lambda header: header[NAME].update(shape=[260, 25]),
        lambda header: header[NAME].update(data_offsets=[0, 2**62]),
        lambda header: header[NAME].update(data_offsets=[2**62, 2**62 + 4]),
        lambda header: header[NAME].update(data_offsets=[8, 0]),
        lambda header: header[NAME].update(dtype="F4096"),
        lambda header: header[NAME].update(dtype="I32"),
        lambda header: header[NAME].update(dtype="F16"),
        lambda header: header.pop(NAME),
        lambda header: header.update({NAME: None}),
        lambda header: header.update(other=dict(header[NAME])),
        lambda header: header.update({"": header.pop(NAME)}),
        lambda header: header.clear(),
    ],
)
def test_a_header_that_lies(bare: Path, change: Change) -> None:
    rewrite_header(bare, change)
    with pytest.raises(ModelError) as caught:
        load_model(bare)
    assert str(bare) in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 7, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_another_length(bare: Path, size: int) -> None:
    path = bare / "model.safetensors"
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    with pytest.raises(ModelError, match="is not readable as safetensors"):
        load_model(bare)


def test_cut_off_anywhere(bare: Path) -> None:
    path = bare / "model.safetensors"
    whole = path.read_bytes()
    for end in [*range(0, 4000, 97), *range(4000, len(whole), 5003), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError, match="is not readable as safetensors"):
            load_model(bare)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_tensors_of_whole_numbers(bare: Path, dtype: torch.dtype | None) -> None:
    path = bare / "model.safetensors"
    tensors = {name: tensor.to(torch.int32) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"(?s)model.*embed\.tokens\.weight holds torch\.int32"):
        load_model(bare, dtype=dtype)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": 7},
        {"architectures": [[]]},
        {"architectures": {"a": 1}},
        {"model_type": []},
        {"n_embd": 2**31},
        {"n_embd": 2**63},
        {"n_embd": 10**40},
        {"n_embd": 24.0},
        {"n_positions": 2**40},
        {"n_layer": 2**24},
        {"n_head": 2**20},
        {"n_inner": 2**50},
        {"vocab_size": True},
        {"layer_norm_epsilon": 1e999},
        {"layer_norm_epsilon": 10**400},
        {"layer_norm_epsilon": float("nan")},
        {"activation_function": ["gelu"]},
    ],
    ids=str,
)
def test_a_config_that_no_model_has(bare: Path, changes: dict[str, Any]) -> None:
    path = bare / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises((ConfigError, ModelError), match=r"config\.json"):
        load_model(bare)


@given(data=st.data())
def test_damaged_bytes_are_an_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, good: dict[str, bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for name, content in good.items():
        (folder / name).write_bytes(content)
    name = data.draw(st.sampled_from(sorted(good)))
    damaged = bytearray(good[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(damaged), 2600) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(damaged)
    try:
        model = load_model(folder)
    except StemmaError:
        return
    assert model.vocab_size == 260


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    config = TransformerConfig(
        vocab_size=260,
        context_length=8,
        d_model=8,
        n_layers=1,
        attention=AttentionConfig(n_heads=2),
    )
    place = save_model(Transformer(config), ByteTokenizer(), tmp_path_factory.mktemp("g") / "model")
    return {name: (place / name).read_bytes() for name in ("config.json", "model.safetensors")}
