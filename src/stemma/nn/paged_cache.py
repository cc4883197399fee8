"""Keys and values in blocks of one pool, so that texts take memory as they grow.

A text's positions lie in blocks that may stand anywhere; its *table* lists them in order. Texts
that begin alike may have the same blocks in their tables. Who has which block is not decided here:
see `stemma.inference.blocks`.

Kwon et al. 2023 (vLLM), arXiv:2309.06180, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stemma.errors import ModelError
from stemma.nn.cache import CacheLayout
from stemma.nn.ragged_cache import Places, RaggedRows


class BlockPool:
    """Memory for the keys and values of many texts, in blocks of as many positions each.

    Args:
        layout: of the model.
        n_blocks: blocks.
        block_size: positions of a block.
    """

    def __init__(self, layout: CacheLayout, n_blocks: int, block_size: int = 16) -> None:
        self.n_blocks = n_blocks
        self.block_size = block_size
        shape = (layout.n_layers, 2, n_blocks * block_size, layout.n_kv_heads, layout.d_head)
        self.memory = torch.zeros(shape, dtype=layout.dtype, device=layout.device)

    @property
    def n_bytes(self) -> int:
        """Memory in bytes, all of it taken at once."""
        return self.memory.nbytes

    def rows(self, tables: Sequence[Sequence[int]], lengths: Sequence[int]) -> PagedCache:
        """The cache of texts that have these blocks and hold so many positions."""
        return PagedCache(self, tables, lengths)


class PagedCache(RaggedRows):
    """Some texts of a `BlockPool`, as the rows of one pass.

    Args:
        pool: where their blocks are.
        tables: the blocks of each text in order; room for what a pass adds included.
        lengths: positions of each text.

    Attributes:
        pool: as given.
        tables: ``[texts, longest]``, padded behind.
        capacities: positions that the blocks of each text hold.
    """

    def __init__(
        self, pool: BlockPool, tables: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> None:
        super().__init__(lengths, pool.memory.device)
        self.pool = pool
        self.capacities = [len(table) * pool.block_size for table in tables]
        longest = max(map(len, tables), default=0)
        padded = [[*table, *[0] * (longest - len(table))] for table in tables]
        self.tables = self._tensor_of(padded)
        self._placed: Places | None = None

    def _tensor_of(self, tables: list[list[int]]) -> Tensor:
        return torch.tensor(tables, dtype=torch.int64, device=self._device)

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write each text's keys and values into its blocks; returns all, gathered into rows.

        Raises:
            ModelError: if a text's blocks have no room for them.
        """
        n, size = keys.shape[2], self.pool.block_size
        places = self.places(n)
        if self._placed is not places:
            self._check(n)
            positions = torch.arange(self.end(n), device=self._device)
            self._slots = self.tables[:, positions // size] * size + positions % size
            block = self.tables[places.rows, places.positions // size]
            self._targets = block * size + places.positions % size
            self._placed = places
        memory = self.pool.memory[layer]
        for part, states in zip(memory, (keys, values), strict=True):
            part[self._targets] = places.of(states).to(part.dtype)
        seen = memory[:, self._slots].transpose(2, 3).to(keys.dtype)
        return seen[0], seen[1]

    def has_room(self, n: int) -> bool:
        """Whether the blocks of each text have room for the ids of the next pass."""
        triples = zip(self._lengths, self._next(n), self.capacities, strict=True)
        return all(length + count <= capacity for length, count, capacity in triples)

    def _check(self, n: int) -> None:
        triples = zip(self._lengths, self._next(n), self.capacities, strict=True)
        for row, (length, count, capacity) in enumerate(triples):
            if length + count > capacity:
                raise ModelError(
                    f"the blocks of row {row} hold {capacity} positions; {length} are taken and "
                    f"{count} more do not fit"
                )
