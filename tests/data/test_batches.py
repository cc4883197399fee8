from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemma.data.batches import Batch, Batches
from stemma.data.tokens import TokenArray
from stemma.data.windows import PackedDocuments, SlidingWindows
from stemma.errors import ConfigError


def numbered_windows(n: int) -> SlidingWindows:
    """n windows of one token, whose ids are their indices."""
    return SlidingWindows(TokenArray(range(n + 1)), 1)


def rows_of(batch: Batch) -> list[int]:
    return batch.ids[:, 0].tolist()


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
def test_every_window_comes_exactly_once_an_epoch(n: int, batch_size: int, seed: int) -> None:
    batches = Batches(numbered_windows(n), batch_size, seed)
    steps = -(-3 * n // batch_size)
    sequence = [row for step in range(steps) for row in rows_of(batches.batch(step))]
    for epoch in range(3):
        assert sorted(sequence[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    epochs = [
        rows_of(Batches(numbered_windows(100), 100, seed).batch(e))
        for seed in (0, 1)
        for e in (0, 1)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert rows_of(Batches(numbered_windows(5), 4, seed=0).batch(0)) == [4, 1, 3, 2]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 30))
def test_a_resumed_run_sees_what_the_undisturbed_one_saw(n: int, batch_size: int, at: int) -> None:
    windows = SlidingWindows(TokenArray(range(4 * n + 4)), 3, phase_seed=7)
    undisturbed = Batches(windows, batch_size, seed=5)
    sequence = [undisturbed.batch(step) for step in range(at + 5)]
    resumed = Batches(SlidingWindows(TokenArray(range(4 * n + 4)), 3, phase_seed=7), batch_size, 5)
    for step in range(at, at + 5):
        assert torch.equal(resumed.batch(step).ids, sequence[step].ids)
        assert torch.equal(resumed.batch(step).labels, sequence[step].labels)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_the_parts_of_the_ranks_are_the_whole_batch(
    n: int, rows: int, world_size: int, step: int
) -> None:
    batches = Batches(numbered_windows(n), rows * world_size, seed=1)
    parts = [batches.batch(step, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [len(part) for part in parts] == [rows] * world_size
    assert [row for part in parts for row in rows_of(part)] == rows_of(batches.batch(step))


def test_a_batch_across_the_edge_of_an_epoch_reads_each_epochs_own_windows() -> None:
    windows = SlidingWindows(TokenArray(range(100)), 10, phase_seed=0)
    batches = Batches(windows, 6, seed=0)
    (first, head), (second, tail) = batches.windows_of(1)
    assert (first, second, head.size, tail.size) == (0, 1, len(windows) - 6, 12 - len(windows))
    expected = np.concatenate([windows.rows(head, 0).ids, windows.rows(tail, 1).ids])
    assert batches.batch(1).ids.tolist() == expected.tolist()
    assert windows.phase(0) != windows.phase(1)


def test_epochs_are_counted_from_the_first_row() -> None:
    batches = Batches(numbered_windows(10), 4)
    assert [batches.epoch_of(step) for step in range(6)] == [0, 0, 0, 1, 1, 2]
    assert batches.steps_per_epoch == 2.5


@pytest.mark.parametrize("packed", [False, True])
def test_tensors_are_what_torch_wants(packed: bool) -> None:
    tokens = TokenArray(range(50), [0, 20, 50])
    windows = PackedDocuments(tokens, 8) if packed else SlidingWindows(tokens, 8)
    for step in (0, 1):  # the second goes across the edge of an epoch
        batch = Batches(windows, 4).batch(step)
        assert len(batch) == 4
        for tensor in (batch.ids, batch.labels, batch.document_ids):
            if tensor is not None:
                assert (tensor.shape, tensor.dtype) == ((4, 8), torch.int64)
                assert tensor.is_contiguous()
        assert (batch.document_ids is not None) == packed


@pytest.mark.parametrize("packed", [False, True])
def test_split_keeps_every_row_in_order(packed: bool) -> None:
    documents = torch.arange(20).view(10, 2) if packed else None
    batch = Batch(torch.arange(20).view(10, 2), torch.arange(20, 40).view(10, 2), documents)
    parts = batch.split(4)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert all((part.document_ids is not None) == packed for part in parts)
    assert torch.equal((parts[1].document_ids if packed else parts[1].ids)[0], torch.tensor([8, 9]))  # type: ignore[index]


def test_to_moves_every_tensor() -> None:
    batch = Batches(PackedDocuments(TokenArray(range(50)), 8), 2).batch(0)
    moved = batch.to("meta")
    assert moved.document_ids is not None
    assert {moved.ids.device, moved.labels.device, moved.document_ids.device} == {
        torch.device("meta")
    }
    assert Batch(batch.ids, batch.labels).to("meta").document_ids is None


def test_windows_are_drawn_evenly_over_the_steps() -> None:
    batches = Batches(numbered_windows(20), 5)
    first = Counter(
        row for seed in range(400) for row in rows_of(Batches(batches.windows, 5, seed).batch(0))
    )
    assert all(60 <= first[row] <= 145 for row in range(20))  # 100 +- 5 standard deviations


def test_bad_arguments() -> None:
    batches = Batches(numbered_windows(10), 6)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        Batches(numbered_windows(10), 0)
    with pytest.raises(ConfigError, match=r"batch_size 6 does not divide over 4 ranks\nChoose a"):
        batches.batch(0, rank=0, world_size=4)
    for rank in (-1, 2):
        with pytest.raises(ConfigError, match=rf"rank {rank} is not in 0 \.\. 1"):
            batches.batch(0, rank=rank, world_size=2)
    with pytest.raises(ConfigError, match="step -1 is negative"):
        batches.batch(-1)
    with pytest.raises(ConfigError, match="micro_batch_size = 0"):
        batches.batch(0).split(0)
