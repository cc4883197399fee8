"""Where the kernels find keys and values: caches of every kind as addresses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.engine.fitness import DTYPES
from stemma.models import Transformer
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


def check_places(
    model: Transformer,
    cache: ServedCache,
    positions: Int[Tensor, " ids"],
    rows: Int[Tensor, " ids"],
) -> None:
    """Compiled code writes where it is told to: refuse what lies elsewhere.

    Raises:
        ModelError: if the cache has no such rows or positions, or is of another model.
    """
    attention, memory = model.config.attention, memory_of(cache)
    n_heads, d_head = attention.n_kv_heads or attention.n_heads, memory.shape[-1]
    wanted = (model.config.n_layers, n_heads, attention.head_size(model.config.d_model))
    if (memory.shape[0], memory.shape[3], d_head) != wanted or memory.dtype not in DTYPES:
        what = f"a cache of {memory.dtype} and the shape {tuple(memory.shape)}"
        raise ModelError(f"{what} is not one of this model", cure="Make it with new_cache.")
    n_rows = cache.batch_size if isinstance(cache, KVCache) else len(cache.lengths)
    _check("row", rows, n_rows)
    if isinstance(cache, PagedCache):
        room = torch.tensor(cache.capacities)[rows]
        if bool((positions >= room).any()):
            raise ModelError(
                f"the blocks hold {room.tolist()} positions, {positions.tolist()} asked"
            )
        _check("position", positions, int(room.max()))
    else:
        _check("position", positions, cache.capacity)


def _check(what: str, values: Tensor, end: int) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < end:
        raise ModelError(f"the cache has {end} {what}s, and {values.tolist()} were asked for")
