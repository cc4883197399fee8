"""ALiBi's slopes and T5's buckets: by hand, and as transformers has them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from stemma.nn import Alibi, AlibiConfig, RelativeBuckets, RelativeBucketsConfig
from stemma.nn.position_bias import alibi_slopes


def test_slopes_by_hand() -> None:
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(1) == [1 / 256]
    # Three heads: those of two, and the first of four.
    assert alibi_slopes(3) == [1 / 16, 1 / 256, 1 / 4]


@given(st.integers(1, 70))
def test_slopes_are_those_of_bloom(n_heads: int) -> None:
    theirs = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(torch.tensor(alibi_slopes(n_heads)), theirs)


def test_penalties_grow_with_the_distance() -> None:
    places = torch.arange(3)
    found = AlibiConfig().build_bias(2, causal=True)(places, places)
    assert found.shape == (2, 3, 3)
    assert found[0].tolist() == [[0, -1 / 16, -1 / 8], [-1 / 16, 0, -1 / 16], [-1 / 8, -1 / 16, 0]]
    rows = Alibi(2)(torch.tensor([[2], [0]]), places)
    assert rows.shape == (2, 2, 1, 3)
    assert rows[0, :, 0].equal(found[:, 2])
    assert rows[1, :, 0].equal(found[:, 0])


def test_buckets_by_hand() -> None:
    # Eight buckets: distances 0 to 3 have their own; 4 to 15 share three, from 16 on the last.
    buckets = RelativeBuckets(1, n_buckets=8, max_distance=16, causal=True)
    assert buckets.bucket(torch.tensor([-5, 0, 1, 3, 4, 5, 6, 8, 12, 16, 99])).tolist() == [
        *(0, 0, 1, 3, 4, 4, 5, 6, 7, 7, 7)
    ]
    both = RelativeBuckets(1, n_buckets=8, max_distance=16, causal=False)
    assert both.bucket(torch.tensor([1, -1, 2, -2, 40, -40])).tolist() == [1, 5, 2, 6, 3, 7]


@given(
    st.lists(st.integers(-2000, 2000), min_size=1, max_size=20),
    st.sampled_from([(32, 128), (8, 16), (16, 1000)]),
    st.booleans(),
)
def test_buckets_are_those_of_t5(back: list[int], sizes: tuple[int, int], causal: bool) -> None:
    buckets = RelativeBuckets(1, n_buckets=sizes[0], max_distance=sizes[1], causal=causal)
    theirs = T5Attention._relative_position_bucket(
        -torch.tensor(back), bidirectional=not causal, num_buckets=sizes[0], max_distance=sizes[1]
    )
    assert buckets.bucket(torch.tensor(back)).equal(theirs)


@pytest.mark.parametrize("causal", [True, False])
def test_the_table_is_learned(causal: bool) -> None:
    built = RelativeBucketsConfig(n_buckets=4, max_distance=8).build_bias(3, causal=causal)
    places = torch.arange(5)
    out = built(places, places)
    assert out.shape == (3, 5, 5)
    assert out[:, 2, 1].equal(built.table.weight[1])
    out[:, 2, 1].sum().backward()
    assert built.table.weight.grad is not None
    assert built.table.weight.grad.nonzero()[:, 0].unique().tolist() == [1]
