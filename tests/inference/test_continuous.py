"""Continuous batching: texts that come and go, small pools, and blocks that nobody loses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from stemma.errors import ModelError
from stemma.inference import Blocks, ContinuousBatch, SamplingConfig, generate_ids
from stemma.inference.blocks import NO_BLOCK, block_key

MODEL = tiny_model()
RULES = [
    SamplingConfig(temperature=0),
    SamplingConfig(seed=1),
    SamplingConfig(seed=2, temperature=1.5, top_k=10, repetition_penalty=1.3),
]


def assert_consistent(batch: ContinuousBatch) -> None:
    """Every block is counted as often as it is in a table, and written by one text at most."""
    seats = [*batch._running, *batch._waiting]
    uses = Counter(block for seat in seats for block in seat.table)
    blocks = batch.blocks
    assert blocks._n_texts == [uses[block] for block in range(len(blocks._n_texts))]
    assert blocks.n_used == len(uses)
    free = [*blocks._empty, *blocks._resting]
    assert len(free) == len(set(free))
    assert sorted([*free, *uses]) == [*range(len(blocks._n_texts))]
    assert {key: block for block, key in blocks._key_of.items()} == blocks._block_of
    for seat in seats:
        assert len(set(seat.table)) == len(seat.table)
        n_full = seat.n_fed // batch._pool.block_size
        assert all(uses[block] == 1 for block in seat.table[n_full:])


def alone(prompt: list[int], n: int, rules: SamplingConfig, **options: Any) -> list[int]:
    return list(generate_ids(MODEL, prompt, max_new_tokens=n, sampling=rules, **options))


# Of few different ids, so that texts begin alike by chance; or of many, so that blocks run out.
prompts = st.lists(st.integers(0, 1), min_size=1, max_size=14) | st.lists(
    st.integers(0, 39), min_size=6, max_size=14
)
arrivals = st.lists(
    st.tuples(st.integers(0, 6), prompts, st.integers(1, 20), st.sampled_from(RULES)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40)
@given(
    arrivals=arrivals,
    n_blocks=st.integers(12, 20),
    max_rows=st.integers(1, 5),
    chunk=st.integers(1, 9),
    stop_id=st.integers(0, 39),
)
def test_each_text_is_what_it_would_be_alone(
    arrivals: list[Any], n_blocks: int, max_rows: int, chunk: int, stop_id: int
) -> None:
    batch = ContinuousBatch(MODEL, n_blocks=n_blocks, block_size=3, max_rows=max_rows, chunk=chunk)
    texts: dict[int, list[int]] = {}
    expected: dict[int, list[int]] = {}
    coming = sorted(arrivals, key=lambda arrival: arrival[0])
    for step in range(2000):
        while coming and coming[0][0] <= step:
            _, prompt, n, rules = coming.pop(0)
            handle = batch.add(prompt, max_new_tokens=n, sampling=rules, stop_ids=[stop_id])
            texts[handle], expected[handle] = [], alone(prompt, n, rules, stop_ids=[stop_id])
        if not coming and not batch.busy:
            break
        for token in batch.step():
            texts[token.handle].append(token.id)
        assert_consistent(batch)
    assert texts == expected
    assert batch.blocks.n_used == 0
    assert batch.statistics.most_blocks <= n_blocks
    assert batch.statistics.chosen == sum(map(len, texts.values()))


def test_a_text_that_lost_its_blocks_goes_on_where_it_was() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=9, block_size=3)
    handles = [batch.add([i] * 5, max_new_tokens=15, sampling=RULES[1]) for i in range(3)]
    texts: dict[int, list[int]] = {handle: [] for handle in handles}
    for token in batch.run():
        texts[token.handle].append(token.id)
    assert batch.statistics.preemptions > 0
    assert [texts[h] for h in handles] == [alone([i] * 5, 15, RULES[1]) for i in range(3)]


def test_what_texts_share_is_computed_once() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=20, block_size=4)
    shared = [*range(10)]
    batch.add([*shared, 20], max_new_tokens=1)
    list(batch.run())
    assert batch.statistics.fed == 11
    batch.add([*shared, 25], max_new_tokens=1)
    list(batch.run())
    # Two full blocks of 4 begin the second text as well: 8 of its 11 ids are not fed.
    assert (batch.statistics.reused, batch.statistics.fed) == (8, 14)
    # A text that is wholly there still feeds its last block, for the logits after it.
    batch.add(shared[:8], max_new_tokens=1)
    list(batch.run())
    assert (batch.statistics.reused, batch.statistics.fed) == (12, 18)


def test_long_prompts_come_in_chunks_beside_others_that_decode() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=40, block_size=4, chunk=6)
    first = batch.add([1, 2], max_new_tokens=30)
    batch.step()
    batch.add([*range(30)], max_new_tokens=1)
    for _ in range(4):
        assert [token.handle for token in batch.step()] == [first]
    assert [token.handle for token in batch.step()] == [first, 1]


def test_ids_of_a_step_come_in_the_order_of_their_texts() -> None:
    """The end of a long prompt is fed after the single ids of younger texts, and comes first."""
    batch = ContinuousBatch(MODEL, n_blocks=20, chunk=4)
    for prompt in ([1, 2, 3, 4, 5, 6], [7], [8]):
        batch.add(prompt, max_new_tokens=4, sampling=SamplingConfig(temperature=0))
    steps = []
    while batch.busy:
        steps.append([token.handle for token in batch.step()])
    assert steps == [[], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    for prompt in ([1, 2, 3, 4, 5, 6], [7]):
        batch.add(prompt, max_new_tokens=2, sampling=SamplingConfig(temperature=0))
    assert [token.handle for token in batch.run()] == [3, 4, 3, 4]


def test_a_text_can_be_ended_from_outside() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=10, block_size=4)
    batch.add([1] * 9)
    batch.step()
    batch.leave(0)
    batch.leave(0)
    assert (batch.busy, batch.blocks.n_used) == (False, 0)


def test_a_pool_is_a_context_too() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=2, block_size=4)
    batch.add([1] * 6, max_new_tokens=100)
    tokens = list(batch.run())
    # 8 positions are fed, and the last id is not.
    assert [token.ended for token in tokens] == [None, None, "context"]
    with pytest.raises(ModelError, match="the prompt has 9 tokens, the model's context holds 8"):
        batch.add([1] * 9)


def test_errors() -> None:
    with pytest.raises(ModelError, match="object cannot keep keys and values in blocks"):
        ContinuousBatch(object(), n_blocks=3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="must be 1 or more"):
        ContinuousBatch(MODEL, n_blocks=0)


class TestBlocks:
    def test_by_hand(self) -> None:
        blocks = Blocks(2)
        key = block_key(NO_BLOCK, [1, 2])
        first = blocks.take()
        assert first is not None
        blocks.keep(first, key)
        assert blocks.find(key) == first
        assert (blocks.take() is not None, blocks.take()) == (True, None)
        blocks.give_back([first])
        assert blocks.n_used == 2
        blocks.give_back([first])
        assert blocks.n_free == 1
        assert blocks.find(key) == first  # nobody had it, and its content was still there
        blocks.give_back([first])
        assert blocks.take() == first
        assert blocks.find(key) is None  # its memory was needed

    def test_the_least_recently_given_back_goes_first(self) -> None:
        blocks = Blocks(3)
        keys = [block_key(NO_BLOCK, [i]) for i in range(3)]
        taken = [blocks.take() for _ in range(3)]
        for block, key in zip(taken, keys, strict=True):
            assert block is not None
            blocks.keep(block, key)
            blocks.give_back([block])
        blocks.find(keys[0])
        blocks.give_back([taken[0]])  # type: ignore[list-item]
        assert blocks.take() == taken[1]

    def test_a_key_depends_on_all_ids_before(self) -> None:
        a, b = block_key(NO_BLOCK, [1, 2]), block_key(NO_BLOCK, [1, 3])
        assert len({a, b, block_key(a, [5, 6]), block_key(b, [5, 6])}) == 4


def test_gradients_are_not_kept() -> None:
    batch = ContinuousBatch(MODEL, n_blocks=10)
    batch.add([1, 2, 3], max_new_tokens=2)
    assert not any(token.logits.requires_grad for token in batch.run())
    assert torch.is_grad_enabled()
