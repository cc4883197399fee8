"""Where the kernels find keys and values: caches of every kind as addresses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.nn import KVCache, PagedCache, RaggedCache

ServedCache = KVCache | RaggedCache | PagedCache


class Place(NamedTuple):
    """A cache in numbers.

    Attributes:
        starts: ``[n_layers, 2]``: addresses of the keys and of the values of each layer.
        strides: bytes from a head to the next, from a position to the next; positions of a run.
        runs: ``[rows, n]``: see `stemma.inference.kernels.layout.Rows`.
    """

    starts: NDArray[np.int64]
    strides: NDArray[np.int64]
    runs: NDArray[np.int64]


def memory_of(cache: ServedCache) -> Tensor:
    """The tensor that holds all keys and values."""
    return cache.pool.memory if isinstance(cache, PagedCache) else cache.memory


def place_of(cache: ServedCache, rows: Int[Tensor, " ids"]) -> Place:
    """Where the texts of some new ids lie.

    Args:
        cache: holds them.
        rows: the row of the cache that each id belongs to.
    """
    memory = memory_of(cache)
    strides = [stride * memory.itemsize for stride in memory.stride()]
    layers = np.arange(memory.shape[0])[:, None]
    starts = memory.data_ptr() + layers * strides[0] + np.arange(2) * strides[1]
    if isinstance(cache, PagedCache):
        position, head, length = strides[2], strides[3], cache.pool.block_size
        runs = cache.tables[rows].numpy() * (length * position)
    else:
        row, head, position = strides[2:5]
        length = cache.capacity
        runs = rows.numpy()[:, None] * row
    return Place(starts, np.array([head, position, length]), np.ascontiguousarray(runs))
