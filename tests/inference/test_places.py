"""Where compiled code may write: nowhere but in the rows and positions of a cache of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model

from stemma.errors import ModelError
from stemma.inference.engine.fitness import DTYPES
from stemma.inference.engine.places import ServedCache, check_places, memory_of, place_of

MODEL = tiny_model()
ROWS, CAPACITY = 3, 6


def paged(model: Any = MODEL) -> ServedCache:
    """Three rows, each with room for six positions in blocks of two."""
    pool = model.new_block_pool(10, block_size=2)
    cache: ServedCache = pool.rows([[1, 2, 3], [4, 0, 6], [9, 8, 7]], [0] * ROWS)
    return cache


CACHES: dict[str, Callable[..., ServedCache]] = {
    "plain": lambda model=MODEL: model.new_cache(ROWS, capacity=CAPACITY),
    "ragged": lambda model=MODEL: model.new_ragged_cache(ROWS, capacity=CAPACITY),
    "paged": paged,
}
KINDS = pytest.mark.parametrize("kind", CACHES)


def check(cache: ServedCache, positions: list[int], rows: list[int]) -> None:
    where = (torch.tensor(numbers, dtype=torch.int64) for numbers in (positions, rows))
    check_places(MODEL, cache, *where)


@KINDS
@given(row=st.integers(-5, 8), position=st.integers(-5, 12), beside=st.booleans())
def test_rows_and_positions(kind: str, row: int, position: int, beside: bool) -> None:
    """One id alone, or the second of two of which the first is right."""
    positions, rows = ([0, position], [0, row]) if beside else ([position], [row])
    cache = CACHES[kind]()
    if 0 <= row < ROWS and 0 <= position < CAPACITY:
        check(cache, positions, rows)
        return
    with pytest.raises(ModelError, match=r"row|position"):
        check(cache, positions, rows)


@KINDS
def test_bounds(kind: str) -> None:
    cache = CACHES[kind]()
    check(cache, [0, CAPACITY - 1], [0, ROWS - 1])
    for rows in ([ROWS], [-1], [0, ROWS]):
        with pytest.raises(ModelError, match="the cache has 3 rows"):
            check(cache, [0] * len(rows), rows)
    for positions in ([CAPACITY], [-1], [0, CAPACITY]):
        with pytest.raises(ModelError, match=r"6 position|6, 6|\[6\] position"):
            check(cache, positions, [0] * len(positions))


@KINDS
@pytest.mark.parametrize(
    "changes",
    [
        {"n_layers": 3},
        {"attention": {"n_heads": 4, "n_kv_heads": 4}},
        {"attention": {"n_heads": 4, "n_kv_heads": 2, "d_head": 6}},
        {"attention": {"n_heads": 4, "n_kv_heads": 2, "d_head": 2}},
    ],
)
def test_caches_of_other_models(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="is not one of this model"):
        check(CACHES[kind](tiny_model(**changes)), [0], [0])


@KINDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.float32, torch.bfloat16])
def test_precisions(kind: str, dtype: torch.dtype) -> None:
    cache = CACHES[kind](tiny_model().to(dtype))
    assert memory_of(cache).dtype == dtype
    if dtype in DTYPES:
        check(cache, [0], [0])
        return
    with pytest.raises(ModelError, match=f"a cache of {dtype}"):
        check(cache, [0], [0])


def test_a_text_has_the_positions_of_its_own_blocks_alone() -> None:
    cache = MODEL.new_block_pool(6, block_size=2).rows([[5], [0, 3]], [0, 0])
    check(cache, [1, 3], [0, 1])
    with pytest.raises(ModelError, match=r"blocks hold \[2\] positions, \[2\] asked"):
        check(cache, [2], [0])


@KINDS
def test_addresses(kind: str) -> None:
    """What stands at a place is the key and the value that were written there."""
    cache = CACHES[kind]()
    memory = memory_of(cache)
    memory.copy_(torch.arange(memory.numel(), dtype=torch.float32).view(memory.shape))
    rows = torch.tensor([2, 0])
    place = place_of(cache, rows)
    of_head, of_position, length = place.strides.tolist()
    for layer, part, i, head, position in [(0, 0, 0, 0, 0), (1, 1, 0, 1, 5), (1, 0, 1, 1, 3)]:
        run = place.runs[i][position // length]
        at = place.starts[layer, part] + run + head * of_head + position % length * of_position
        row = int(rows[i])
        if kind == "paged":
            slot = int(cache.tables[row, position // 2]) * 2 + position % 2
            expected = memory[layer, part, slot, head, 0]
        else:
            expected = memory[layer, part, row, head, position, 0]
        assert (int(at) - memory.data_ptr()) // 4 == int(expected)
