"""Attention of a decoder to an encoder: by hand, against torch's own, masks, memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma.nn import AttentionConfig, CrossAttention


def example(seed: int, n_words: list[int], d_model: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(n_words), max(n_words), d_model, generator=generator)
    x = torch.randn(len(n_words), 4, d_model, generator=generator)
    return x, states, torch.arange(max(n_words)) < torch.tensor(n_words)[:, None]


def build(seed: int = 0, **values: object) -> CrossAttention:
    torch.manual_seed(seed)
    return AttentionConfig.parse({"n_heads": 2, **values}).build_cross(8)


def test_worked_by_hand() -> None:
    layer = AttentionConfig(n_heads=1, bias=False).build_cross(1)
    for part, value in ((layer.q_proj, 1.0), (layer.k_proj, 2.0), (layer.v_proj, 10.0)):
        nn.init.constant_(part.weight, value)
    nn.init.constant_(layer.o_proj.weight, 1.0)
    # A query of 1 scores the sources 0 and ln(3)/2 with 0 and ln 3: weights 1/4 and 3/4.
    source = torch.tensor([[[0.0], [math.log(3) / 2], [99.0]]])
    memory = layer.read(source, torch.tensor([[True, True, False]]))
    found = layer(torch.tensor([[[1.0]]]), memory)
    assert found.item() == pytest.approx(0.75 * 10 * math.log(3) / 2)


@given(seed=st.integers(0, 99), n_words=st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_it_is_that_of_torch(seed: int, n_words: list[int]) -> None:
    x, states, mask = example(seed, n_words)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    ours = build(seed)
    with torch.no_grad():
        for part, matrix, bias in zip(
            (ours.q_proj, ours.k_proj, ours.v_proj),
            theirs.in_proj_weight.chunk(3),
            theirs.in_proj_bias.normal_().chunk(3),
            strict=True,
        ):
            part.weight.copy_(matrix)
            part.bias.copy_(bias)
    ours.o_proj.load_state_dict(theirs.out_proj.state_dict())
    expected, weights = theirs(
        x, states, states, key_padding_mask=~mask, average_attn_weights=False
    )
    memory = ours.read(states, mask)
    torch.testing.assert_close(ours(x, memory), expected)
    found, own_weights = ours.forward_with_weights(x, memory)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own_weights, weights)


@given(
    seed=st.integers(0, 99),
    n_words=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    n_kv_heads=st.sampled_from([1, 2]),
    softcap=st.sampled_from([None, 2.0]),
)
def test_padding_and_the_other_rows_do_not_matter(
    seed: int, n_words: list[int], n_kv_heads: int, softcap: float | None
) -> None:
    layer = build(seed, n_kv_heads=n_kv_heads, softcap=softcap)
    x, states, mask = example(seed, n_words)
    whole = layer.read(states, mask)
    found = layer(x, whole)
    for row, length in enumerate(n_words):
        alone = layer(x[[row]], layer.read(states[[row], :length]))
        torch.testing.assert_close(alone, found[[row]])
    order = torch.arange(len(n_words)).flip(0).repeat(2)
    torch.testing.assert_close(layer(x[order], whole.select(order)), found[order])


def test_targets_do_not_see_each_other_and_see_all_of_the_source() -> None:
    layer = build()
    x, states, _ = example(0, [5])
    memory = layer.read(states)
    torch.testing.assert_close(layer(x[:, 2:3], memory), layer(x, memory)[:, 2:3])
    _, weights = layer.forward_with_weights(x, memory)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 4))
