"""KVCache: what goes in comes out, rolls back, and does not overflow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stemma.errors import ModelError
from stemma.nn import CacheLayout, KVCache


def numbered(start: int, n: int, rows: int = 2) -> Tensor:
    """Keys whose value is their position."""
    return (
        torch.arange(start, start + n, dtype=torch.float32).view(1, 1, n, 1).expand(rows, 3, n, 4)
    )


def make(capacity: int = 6) -> KVCache:
    return KVCache(CacheLayout(2, 3, 4), 2, capacity)


def fill(cache: KVCache, n: int) -> tuple[Tensor, Tensor]:
    start = cache.length
    for layer in range(2):
        seen = cache.layer(layer).append(numbered(start, n) + 100 * layer, -numbered(start, n))
    cache.advance(n)
    return seen


def test_all_of_a_layer_comes_back_in_order() -> None:
    cache = make()
    fill(cache, 2)
    keys, values = fill(cache, 3)
    assert cache.length == 5
    assert keys.shape == (2, 3, 5, 4)
    assert keys[1, 2, :, 3].tolist() == [100, 101, 102, 103, 104]
    assert values[0, 0, :, 0].tolist() == [0, -1, -2, -3, -4]


def test_truncation_forgets_and_the_memory_is_written_again() -> None:
    cache = make()
    fill(cache, 5)
    cache.truncate(2)
    assert cache.length == 2
    keys, _ = cache.append(0, numbered(70, 1), numbered(70, 1))
    assert keys[0, 0, :, 0].tolist() == [0, 1, 70]


def test_a_pass_that_was_interrupted_leaves_no_trace() -> None:
    cache = make()
    fill(cache, 2)
    cache.append(0, numbered(50, 2), numbered(50, 2))  # and the second layer never came
    keys, _ = fill(cache, 1)
    assert keys[0, 0, :, 0].tolist() == [100, 101, 102]


def test_its_memory_is_allocated_once() -> None:
    cache = make()
    first, _ = fill(cache, 1)
    second, _ = fill(cache, 4)
    assert first.data_ptr() == second.data_ptr()


def test_bytes() -> None:
    # 2 x layers x rows x kv heads x positions x d_head x bytes of a number.
    cache = KVCache(CacheLayout(3, 4, 8, torch.bfloat16), 2, 10)
    assert cache.n_bytes == 2 * 3 * 2 * 4 * 10 * 8 * 2


def test_another_precision_is_rounded_on_the_way_in_and_widened_on_the_way_out() -> None:
    cache = KVCache(CacheLayout(1, 3, 4, torch.bfloat16), 2, 6)
    keys, _ = cache.append(0, numbered(257, 1), numbered(0, 1))
    assert keys.dtype == torch.float32
    assert keys.unique().tolist() == [256]


def test_errors() -> None:
    cache = make(capacity=4)
    fill(cache, 3)
    with pytest.raises(ModelError, match=r"holds 4 positions; 3 are taken and 2 more do not fit"):
        cache.append(0, numbered(3, 2), numbered(3, 2))
    with pytest.raises(ModelError, match="cannot truncate to 4 positions: the cache holds 3"):
        cache.truncate(4)
    with pytest.raises(ModelError, match="cannot truncate to -1"):
        cache.truncate(-1)
    with pytest.raises(ModelError, match="the cache has 2 rows, the ids 5"):
        cache.append(0, numbered(3, 1, rows=5), numbered(3, 1, rows=5))
    assert cache.length == 3


def test_rows_are_reordered_repeated_and_left_out() -> None:
    cache = make()
    keys = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 1, 4)
    for layer in range(2):
        cache.append(layer, keys, keys)
    cache.advance(1)
    cache.select([1, 0, 1])
    assert (cache.batch_size, cache.length, cache.capacity) == (3, 1, 6)
    seen, _ = cache.append(0, torch.zeros(3, 3, 1, 4), torch.zeros(3, 3, 1, 4))
    assert seen[:, 0, :, 0].tolist() == [[1, 0], [0, 0], [1, 0]]
