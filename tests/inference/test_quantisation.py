"""Weights in few bits: numbers worked by hand, bounds that hold for all, and what is shared."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stemma.errors import ModelError
from stemma.hub import save_model
from stemma.inference import QuantisedEmbedding, QuantisedLinear, quantise
from stemma.inference.quantisation import (
    dequantise_groups,
    dequantise_rows,
    quantise_groups,
    quantise_rows,
)
from stemma.models import TransformerConfig
from stemma.tokenizers import CharacterTokenizer

SEEDS = st.integers(0, 1000)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny(*, tied: bool = True) -> Any:
    return TransformerConfig(
        vocab_size=40,
        context_length=8,
        d_model=64,
        n_layers=2,
        attention={"n_heads": 4},
        feedforward={"kind": "mlp", "d_ff": 50},
        tie_embeddings=tied,
    ).build()


def test_rows_by_hand() -> None:
    """254 / 127 = 2 is the scale of the first row; 3 / 2 is in the middle and becomes an even 2."""
    weight = torch.tensor([[-254.0, 100.0, 3.0, 0.9], [0.0, 0.0, 0.0, 0.0]])
    values, scales = quantise_rows(weight)
    assert values.tolist() == [[-127, 50, 2, 0], [0, 0, 0, 0]]
    assert scales.tolist() == [2.0, 1.0]
    assert dequantise_rows(values, scales).tolist() == [[-254.0, 100.0, 4.0, 0.0], [0.0] * 4]


def test_groups_by_hand() -> None:
    """From -4 to 11 in 15 steps of 1; weight 0 and weight 16 share the first byte."""
    weight = torch.arange(32).remainder(16).sub(4).float().unsqueeze(0)
    weight[0, 16] = 11
    values, scales = quantise_groups(weight)
    assert scales.tolist() == [[[1.0, -4.0]]]
    assert values[0, 0] == 15 << 4
    assert values[0, 5] == 5 << 4 | 5
    assert torch.equal(dequantise_groups(values, scales), weight)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 70), st.floats(-6, 6))
def test_no_row_is_off_by_more_than_half_a_step(seed: int, n: int, m: int, size: float) -> None:
    weight = noise(n, m, seed=seed) * 10**size
    values, scales = quantise_rows(weight)
    error = (dequantise_rows(values, scales) - weight).abs()
    assert (error <= 0.5001 * scales.unsqueeze(1)).all()


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.floats(-3, 3), st.floats(-5, 5))
def test_groups_are_at_least_as_good_as_a_grid_over_their_span(
    seed: int, n: int, n_groups: int, size: float, shift: float
) -> None:
    weight = noise(n, 32 * n_groups, seed=seed) * 10**size + shift
    groups = weight.view(n, n_groups, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / 15).bfloat16().float()
    offset = low.bfloat16().float()
    plain = ((groups - offset) / step).round().clamp(0, 15) * step + offset
    found = dequantise_groups(*quantise_groups(weight)).view(n, n_groups, 32)
    error, bound = ((grid - groups).square().sum(-1) for grid in (found, plain))
    assert (error <= bound * 1.001 + 1e-12).all()


def test_equal_weights_are_kept() -> None:
    for value in (0.0, 1.0, -0.5):
        weight = torch.full((2, 64), value)
        assert torch.equal(dequantise_groups(*quantise_groups(weight)), weight)
        assert torch.allclose(dequantise_rows(*quantise_rows(weight)), weight)


def test_rows_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="33 weights"):
        quantise_groups(torch.zeros(2, 33))


@pytest.mark.parametrize("bits", ["int8", "int4"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_with_the_weights_it_stands_for(bits: Any, bias: bool) -> None:
    linear = nn.Linear(64, 5, bias=bias)
    layer = QuantisedLinear(linear.weight, linear.bias, bits)
    x = noise(3, 64)
    expected = x @ layer.weight.T + (linear.bias if bias else 0)
    torch.testing.assert_close(layer(x), expected)
    tolerance = 0.01 if bits == "int8" else 0.1
    assert 0 < (layer(x) - linear(x)).abs().max() < tolerance
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_an_embedding_looks_up_what_its_matrix_holds() -> None:
    embedding = QuantisedEmbedding(noise(7, 12).bfloat16(), "int8")
    ids = torch.tensor([[3, 3], [6, 0]])
    assert torch.equal(embedding(ids), embedding.weight[ids])
    assert embedding.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_is_quantised_where_it_is_large(tied: bool) -> None:
    model = tiny(tied=tied)
    plain = copy.deepcopy(model)
    assert quantise(model, "int4") is model
    bits = {name: part.bits for name, part in model.named_modules() if hasattr(part, "bits")}
    assert bits.pop("embed.tokens") == bits.pop("head") == "int8"
    # 50 features within are no whole groups; 64 are two.
    assert {name for name, kind in bits.items() if kind == "int8"} == {
        f"blocks.{i}.feedforward.down_proj" for i in range(2)
    }
    assert len(bits) == 12
    assert isinstance(model.embed.positions, nn.Embedding)
    shared = model.head.values.data_ptr() == model.embed.tokens.values.data_ptr()
    assert shared is tied
    ids = torch.tensor([[1, 2, 3]])
    assert 0 < (model(ids) - plain(ids)).abs().max() < 0.1
    size = sum(x.nbytes for x in {x.data_ptr(): x for x in model.state_dict().values()}.values())
    was = sum(x.nbytes for x in {x.data_ptr(): x for x in plain.state_dict().values()}.values())
    assert size < 0.3 * was
    model.new_cache(1)


def test_another_number_of_bits_is_refused() -> None:
    with pytest.raises(ModelError, match="'int3'"):
        quantise(tiny(), "int3")


def test_a_mixture_of_experts_is_refused_and_left_as_it_is() -> None:
    values = tiny().config.model_dump()
    values["feedforward"] = {"kind": "moe", "n_experts": 4, "n_active": 2, "d_ff": 32}
    model = TransformerConfig.parse(values).build()
    before = {name: type(part) for name, part in model.named_modules()}
    with pytest.raises(ModelError, match="mixture of experts"):
        quantise(model, "int8")
    assert {name: type(part) for name, part in model.named_modules()} == before


def test_positions_and_segments_stay_and_a_model_of_matrices_alone_has_a_cache() -> None:
    values = tiny().config.model_dump()
    values |= {"n_segments": 2, "position": {"kind": "relative_buckets"}}
    model = quantise(TransformerConfig.parse(values).build(), "int8")
    assert isinstance(model.embed.segments, nn.Embedding)
    assert isinstance(model.whole.bias.table, nn.Embedding)
    values |= {"n_segments": None, "placement": "none", "position": {"kind": "none"}}
    values["attention"]["bias"] = values["feedforward"]["bias"] = False
    bare = quantise(TransformerConfig.parse(values).build().bfloat16(), "int8")
    assert not list(bare.parameters())
    assert bare.new_cache(1).memory.dtype == torch.bfloat16


def test_the_head_of_a_decoder_has_8_bits() -> None:
    values = tiny(tied=False).config.model_dump()
    pair = nn.ModuleDict({"decoder": TransformerConfig.parse(values).build()})
    quantise(pair, "int4")
    assert pair["decoder"].head.bits == "int8"
    assert pair["decoder"].blocks[0].attention.q_proj.bits == "int4"


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_few_bits_are_neither_quantised_again_nor_saved(bits: Any, tmp_path: Path) -> None:
    model = quantise(tiny(), bits)
    with pytest.raises(ModelError, match="in few bits already"):
        quantise(model, "int8")
    tokenizer = CharacterTokenizer("abc")
    with pytest.raises(ModelError, match=r"numbers of few bits.*\n.*before it was quantised"):
        save_model(model, tokenizer, tmp_path / "m")
    assert not (tmp_path / "m").exists()
