"""Keys and values of the positions that a model has seen, so that each is computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError


class CacheLayout(NamedTuple):
    """What a model's caches have in common.

    Attributes:
        n_layers: number of layers.
        n_kv_heads: heads of keys and values.
        d_head: features of a head.
        dtype: of keys and values.
        device: where they lie.
    """

    n_layers: int
    n_kv_heads: int
    d_head: int
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    @property
    def bytes_per_position(self) -> int:
        """Memory that one position of one text takes."""
        return 2 * self.n_layers * self.n_kv_heads * self.d_head * self.dtype.itemsize

    def memory(
        self, batch_size: int, capacity: int
    ) -> Float[Tensor, "n_layers 2 batch n_kv_heads capacity d_head"]:
        """Zeros for the keys and values of so many rows and positions."""
        shape = (self.n_layers, 2, batch_size, self.n_kv_heads, capacity, self.d_head)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)


class Cache(ABC):
    """What a model asks of the keys and values it has seen, however they are kept.

    One pass over ``n`` ids per row asks for `end` and `positions` first, then each layer for
    `append`, and calls `advance` when all layers have written. A pass that is interrupted leaves
    the cache as it was.
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of positions it holds; of the longest row, if rows differ."""

    @abstractmethod
    def end(self, n: int) -> int:
        """How many keys `append` will give when ``n`` ids per row are added."""

    @abstractmethod
    def positions(self, n: int) -> Int[Tensor, "*batch n"]:
        """Where the next ``n`` ids stand: ``[n]``, or ``[batch, n]`` where rows differ."""

    @abstractmethod
    def has_room(self, n: int) -> bool:
        """Whether ``n`` more ids per row fit."""

    def key_positions(self, n: int, device: torch.device) -> Int[Tensor, "*batch keys"]:
        """Where the keys stand that `append` will give: one after the other, from 0 on."""
        return torch.arange(self.end(n), device=device)

    @abstractmethod
    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of its own, old ones first."""

    @abstractmethod
    def advance(self, n: int) -> None:
        """Count ``n`` positions that every layer has written."""

    def layer(self, index: int) -> LayerCache:
        """The part of one layer."""
        return LayerCache(self, index)


class KVCache(Cache):
    """Keys and values of all layers, in memory that is allocated once.

    Only ``n_kv_heads`` heads are kept: grouped queries share them. Layers write behind ``length``,
    and the model moves ``length`` when all of them have; a forward pass that is interrupted leaves
    the cache as it was.

    Args:
        layout: of the model's caches.
        batch_size: rows.
        capacity: the most positions.
    """

    def __init__(self, layout: CacheLayout, batch_size: int, capacity: int) -> None:
        self._memory = layout.memory(batch_size, capacity)
        self._length = 0

    @property
    def length(self) -> int:
        """Number of positions it holds."""
        return self._length

    @property
    def capacity(self) -> int:
        """The most positions it can hold."""
        return self._memory.shape[-2]

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self._memory.shape[2]

    @property
    def memory(self) -> Float[Tensor, "n_layers 2 batch n_kv_heads capacity d_head"]:
        """Keys and values of all layers; what lies behind `length` means nothing."""
        return self._memory

    @property
    def n_bytes(self) -> int:
        """Memory in bytes: 2 x layers x rows x heads x capacity x d_head x size of a number."""
        return self._memory.nbytes

    def end(self, n: int) -> int:
        """How many positions there will be with ``n`` more."""
        return self._length + n

    def has_room(self, n: int) -> bool:
        """Whether ``n`` more ids per row fit."""
        return self.end(n) <= self.capacity

    def positions(self, n: int) -> Int[Tensor, " n"]:
        """Where the next ``n`` ids stand."""
        return torch.arange(self._length, self._length + n, device=self._memory.device)

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of its own, old ones first.

        Raises:
            ModelError: if they do not fit.
        """
        end = self._length + keys.shape[2]
        if end > self.capacity:
            raise ModelError(
                f"the cache holds {self.capacity} positions; {self._length} are taken and "
                f"{keys.shape[2]} more do not fit",
                cure="Make a larger cache, or truncate this one.",
            )
        if keys.shape[0] != self.batch_size:
            raise ModelError(f"the cache has {self.batch_size} rows, the ids {keys.shape[0]}")
        memory = self._memory[layer]
        memory[0, :, :, self._length : end] = keys
        memory[1, :, :, self._length : end] = values
        seen = memory[:, :, :, :end].to(keys.dtype)
        return seen[0], seen[1]

    def advance(self, n: int) -> None:
        """Count ``n`` positions that every layer has written."""
        self._length += n

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on.

        Raises:
            ModelError: if it holds fewer.
        """
        if not 0 <= length <= self._length:
            raise ModelError(
                f"cannot truncate to {length} positions: the cache holds {self._length}",
                cure=f"Give a length from 0 to {self._length}.",
            )
        self._length = length

    def select(self, rows: Sequence[int]) -> None:
        """Make row ``i`` what row ``rows[i]`` was: rows are reordered, repeated or left out."""
        self._memory = select_rows(self._memory, rows, self._length)


def select_rows(
    memory: Float[Tensor, "n_layers 2 batch n_kv_heads capacity d_head"],
    rows: Sequence[int],
    length: int,
) -> Float[Tensor, "n_layers 2 rows n_kv_heads capacity d_head"]:
    """The rows of these numbers; only the first ``length`` positions are copied."""
    if [*rows] == [*range(memory.shape[2])]:
        return memory
    index = torch.tensor([*rows], dtype=torch.int64, device=memory.device)
    selected = memory.new_zeros((*memory.shape[:2], len(index), *memory.shape[3:]))
    selected[..., :length, :] = memory[..., :length, :].index_select(2, index)
    return selected


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one attention layer sees of a `Cache`."""

    cache: Cache
    index: int

    def append(
        self,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write this layer's new keys and values; returns all of them."""
        return self.cache.append(self.index, keys, values)
