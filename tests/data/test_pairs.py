"""Pairs of source and target: padded, shifted, in an order that is a pure function."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemma.data import IGNORE_INDEX, PairBatch, PairBatches
from stemma.errors import ConfigError, DataError

PAIRS = [([i, i + 1][: 1 + i % 2], [i] * (1 + i % 3) + [99]) for i in range(1, 12)]


def test_a_batch_worked_by_hand() -> None:
    batch = PairBatch.of([([5, 6, 7], [8, 99]), ([5], [1, 2, 99])], start_id=3)
    assert batch.source_ids.tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch.source_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.ids.tolist() == [[3, 8, 0], [3, 1, 2]]
    assert batch.labels.tolist() == [[8, 99, IGNORE_INDEX], [1, 2, 99]]


@given(rows=st.integers(1, 9), parts=st.integers(1, 9))
def test_its_parts_are_the_batch(rows: int, parts: int) -> None:
    batch = PairBatch.of(PAIRS[:rows], start_id=0)
    pieces = batch.split(parts)
    assert [len(piece) for piece in pieces[:-1]] == [parts] * (len(pieces) - 1)
    for field in ("source_ids", "source_mask", "ids", "labels"):
        joined = torch.cat([getattr(piece, field) for piece in pieces])
        assert torch.equal(joined, getattr(batch, field))
    with pytest.raises(ConfigError, match="micro_batch_size = 0"):
        batch.split(0)


@given(batch_size=st.integers(1, 25), seed=st.integers(0, 9), epochs=st.integers(1, 3))
def test_every_pair_comes_once_an_epoch(batch_size: int, seed: int, epochs: int) -> None:
    batches = PairBatches(PAIRS, batch_size, seed)
    assert batches.steps_per_epoch == 11 / batch_size
    steps = range(-(-epochs * 11 // batch_size))
    seen = Counter(
        (epoch, int(index))
        for step in steps
        for epoch, indices in batches.windows_of(step)
        for index in indices
    )
    for epoch in range(epochs):
        assert all(seen[epoch, index] == 1 for index in range(11))
    chosen = [int(i) for _, indices in batches.windows_of(0) for i in indices]
    expected = PairBatch.of([PAIRS[i] for i in chosen], start_id=0)
    assert torch.equal(batches.batch(0).labels, expected.labels)


def test_the_order_is_that_of_the_seed() -> None:
    def first(seed: int) -> list[list[int]]:
        return PairBatches(PAIRS, 8, seed).batch(3).labels.tolist()

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_what_is_empty_is_named() -> None:
    with pytest.raises(DataError, match="pair 1: a source or a target is empty"):
        PairBatch.of([([1], [1]), ([], [1])], start_id=0)
    with pytest.raises(DataError, match="there are no pairs"):
        PairBatches([], 4)
