"""A cache's memory as tensors of fixed shapes, for code that is compiled or recorded once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.nn.cache import Cache


class FixedCache(Cache):
    """The memory of a `KVCache`, seen by a pass whose shapes do not depend on how full it is.

    Where the pass begins is a number in a tensor, so one compiled program serves every position;
    the whole memory is attended to, and the mask leaves out what is not written yet. The pass
    writes into the memory; counting positions is left to the caller.

    Args:
        memory: ``[n_layers, 2, batch, n_kv_heads, capacity, d_head]``.
        start: how many positions are taken, as a tensor without dimensions.
    """

    def __init__(self, memory: Float[Tensor, ...], start: Int[Tensor, ""]) -> None:
        self._memory = memory
        self._start = start

    @property
    def length(self) -> int:
        """As a number; asking for it breaks a compiled program in two."""
        return int(self._start)

    def end(self, n: int) -> int:
        """Always the whole capacity."""
        return self._memory.shape[-2]

    def has_room(self, n: int) -> bool:
        """Left to the caller, as counting is."""
        return True

    def positions(self, n: int) -> Int[Tensor, "1 n"]:
        """Where the next ``n`` ids stand; a row, so that masks are made from it."""
        return (self._start + torch.arange(n, device=self._memory.device)).unsqueeze(0)

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch n_kv_heads new d_head"],
        values: Float[Tensor, "batch n_kv_heads new d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values; returns its whole memory."""
        memory, at = self._memory[layer], self.positions(keys.shape[2])[0]
        for part, states in zip(memory, (keys, values), strict=True):
            part.index_copy_(2, at, states.to(part.dtype))
        seen = memory.to(keys.dtype)
        return seen[0], seen[1]

    def advance(self, n: int) -> None:
        """Nothing: the caller counts."""
