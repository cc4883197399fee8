"""A cache whose rows have lengths of their own, for texts that are continued together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.nn.cache import Cache, CacheLayout, KVCache, select_rows


class Places(NamedTuple):
    """Where the new keys and values of one pass belong.

    Attributes:
        rows: the row of each id that is no padding.
        positions: where it stands in its row.
        taken: which of the pass's ids these are, counted through all rows; None: all of them.
    """

    rows: Int[Tensor, " ids"]
    positions: Int[Tensor, " ids"]
    taken: Int[Tensor, " ids"] | None

    def of(
        self, states: Float[Tensor, "batch n_kv_heads new d_head"]
    ) -> Float[Tensor, "ids n_kv_heads d_head"]:
        """The keys or values of these ids."""
        flat = states.transpose(1, 2).flatten(0, 1)
        return flat if self.taken is None else flat[self.taken]


class RaggedRows(Cache):
    """What caches with rows of different lengths share: where the next ids of each row stand.

    All rows of a pass have the same number of ids; a row with fewer is padded behind with any id,
    and `expect` says how many are its own. Padding is written nowhere, and no other id sees it.

    Args:
        lengths: of the rows.
        device: where positions are needed.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str) -> None:
        self._lengths = [*lengths]
        self._counts: list[int] | None = None
        self._places: tuple[object, Places] | None = None
        self._device = device

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of positions of each row."""
        return tuple(self._lengths)

    @property
    def length(self) -> int:
        """Number of positions of the longest row."""
        return max(self._lengths, default=0)

    def expect(self, counts: Sequence[int]) -> None:
        """Say how many ids of each row in the next pass are no padding; all, unless this is called.

        Raises:
            ModelError: if there is not one number for each row.
        """
        if len(counts) != len(self._lengths):
            raise ModelError(f"{len(counts)} counts, and the cache has {len(self._lengths)} rows")
        self._counts = [*counts]

    def end(self, n: int) -> int:
        """Length of the longest row after ``n`` more ids, padding left out."""
        pairs = zip(self._lengths, self._next(n), strict=True)
        return max((length + count for length, count in pairs), default=0)

    def positions(self, n: int) -> Int[Tensor, "batch n"]:
        """Where the next ``n`` ids of each row stand; padding stands where the last id does."""
        step = torch.arange(n, device=self._device)
        last = self._tensor(self._next(n)).unsqueeze(1) - 1
        start = self._tensor(self._lengths).unsqueeze(1)
        return (start + torch.minimum(step, last)).clamp(min=0)

    def advance(self, n: int) -> None:
        """Count the ids of a pass that every layer has written."""
        pairs = zip(self._lengths, self._next(n), strict=True)
        self._lengths = [length + count for length, count in pairs]
        self._counts = None

    def places(self, n: int) -> Places:
        """Where the ids of this pass belong; made once for all layers."""
        counts = self._next(n)
        made_of = (n, [*counts], [*self._lengths])
        if self._places is None or self._places[0] != made_of:
            rows = [row for row, count in enumerate(counts) for _ in range(count)]
            steps = [step for count in counts for step in range(count)]
            at = [self._lengths[row] + step for row, step in zip(rows, steps, strict=True)]
            taken = [row * n + step for row, step in zip(rows, steps, strict=True)]
            whole = len(taken) == n * len(counts)
            places = Places(
                self._tensor(rows), self._tensor(at), None if whole else self._tensor(taken)
            )
            self._places = made_of, places
        return self._places[1]

    def _next(self, n: int) -> list[int]:
        if self._counts is None:
            return [n] * len(self._lengths)
        if max(self._counts, default=0) > n:
            raise ModelError(f"{max(self._counts)} ids of a row were announced, and {n} came")
        return self._counts

    def _tensor(self, numbers: Sequence[int]) -> Int[Tensor, " n"]:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


class RaggedCache(RaggedRows):
    """Keys and values of rows that have lengths of their own, in memory that is allocated once.

    Args:
        layout: of the model.
        batch_size: rows.
        capacity: the most positions of a row.
    """

    def __init__(self, layout: CacheLayout, batch_size: int, capacity: int) -> None:
        super().__init__([0] * batch_size, layout.device)
        self._memory = layout.memory(batch_size, capacity)

    @property
    def capacity(self) -> int:
        """The most positions of a row."""
        return self._memory.shape[-2]

    def has_room(self, n: int) -> bool:
        """Whether the ids of the next pass fit."""
        return self.end(n) <= self.capacity

    @property
    def memory(self) -> Float[Tensor, "n_layers 2 batch n_kv_heads capacity d_head"]:
        """Keys and values of all layers; what lies behind a row's length means nothing."""
        return self._memory

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write each row's keys and values behind its own; returns all, up to the longest row.

        Behind the end of a shorter row stands what no position of it may look at.

        Raises:
            ModelError: if they do not fit.
        """
        end = self.end(keys.shape[2])
        if not self.has_room(keys.shape[2]):
            raise ModelError(
                f"the cache holds {self.capacity} positions, and a row would have {end}",
                cure="Make a larger cache, or truncate this one.",
            )
        if keys.shape[0] != len(self._lengths):
            raise ModelError(f"the cache has {len(self._lengths)} rows, the ids {keys.shape[0]}")
        places, memory = self.places(keys.shape[2]), self._memory[layer]
        for part, states in zip(memory, (keys, values), strict=True):
            part[places.rows, :, places.positions] = places.of(states).to(part.dtype)
        seen = memory[:, :, :, :end].to(keys.dtype)
        return seen[0], seen[1]

    def row(self, index: int) -> RaggedRow:
        """One row as a cache of its own: what is added to it is in this one too.

        Raises:
            ModelError: if there is no such row.
        """
        if not 0 <= index < len(self._lengths):
            raise ModelError(f"row {index}, and the cache has {len(self._lengths)} rows")
        return RaggedRow(self, index)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget all positions of each row from its length in ``lengths`` on.

        Raises:
            ModelError: if a row holds fewer.
        """
        for row, (old, new) in enumerate(zip(self._lengths, lengths, strict=True)):
            if not 0 <= new <= old:
                raise ModelError(
                    f"cannot truncate row {row} to {new} positions: it holds {old}",
                    cure=f"Give a length from 0 to {old}.",
                )
        self._lengths = [*lengths]

    def select(self, rows: Sequence[int]) -> None:
        """Make row ``i`` what row ``rows[i]`` was: rows are reordered, repeated or left out."""
        self._memory = select_rows(self._memory, rows, self.length)
        self._lengths = [self._lengths[row] for row in rows]


class RaggedRow(KVCache):
    """A row of a `RaggedCache`, in its memory, until its rows are selected.

    Args:
        cache: that has the row.
        index: which one.
    """

    def __init__(self, cache: RaggedCache, index: int) -> None:
        self._whole = cache.memory
        self._memory = self._whole[:, :, index : index + 1]
        self._cache = cache
        self._index = index

    def select(self, rows: Sequence[int]) -> None:
        """Refused: other rows of its cache have no place beside it.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"rows {[*rows]} of a cache that is itself a row of another",
            cure="Select rows of the cache that this one was made of.",
        )

    @property
    def _length(self) -> int:
        return self._lengths[self._index]

    @_length.setter
    def _length(self, length: int) -> None:
        self._lengths[self._index] = length

    @property
    def _lengths(self) -> list[int]:
        if self._cache.memory is not self._whole:
            raise ModelError(
                f"the cache of row {self._index} has other rows since they were selected",
                cure="Make the row anew.",
            )
        return self._cache._lengths
