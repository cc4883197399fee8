"""Who has which block of a pool: counted, shared where texts begin alike, and reused.

A block that is full is known by its *key*: a hash of all ids up to its end. A text that begins with
the same ids takes the block as it is, computed already. Only full blocks are shared, so none is
ever written to by two texts, and nothing needs copying. A block that no text has any more keeps its
content until its memory is needed, the one that was given back longest ago first.

Kwon et al. 2023 (vLLM), arXiv:2309.06180, sections 4.2 and 4.4.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

BlockKey = bytes

NO_BLOCK: BlockKey = b""
"""Stands before the first block of a text."""


def block_key(before: BlockKey, ids: Sequence[int]) -> BlockKey:
    """The key of a full block, from that of the block before it and its own ids."""
    return hashlib.sha256(before + np.asarray(ids, np.int64).tobytes()).digest()


class Blocks:
    """Blocks 0 to ``n_blocks - 1`` and how many texts have each.

    Args:
        n_blocks: blocks.
    """

    def __init__(self, n_blocks: int) -> None:
        self._n_texts = [0] * n_blocks
        self._empty: list[int] = [*range(n_blocks)][::-1]
        self._resting: OrderedDict[int, BlockKey] = OrderedDict()
        self._block_of: dict[BlockKey, int] = {}
        self._key_of: dict[int, BlockKey] = {}

    @property
    def n_free(self) -> int:
        """Blocks that no text has."""
        return len(self._empty) + len(self._resting)

    @property
    def n_used(self) -> int:
        """Blocks that some text has."""
        return len(self._n_texts) - self.n_free

    def take(self) -> int | None:
        """A block to write to, for one text; None if all are in use."""
        if self._empty:
            block = self._empty.pop()
        elif self._resting:
            block = next(iter(self._resting))
            del self._block_of[self._resting.pop(block)], self._key_of[block]
        else:
            return None
        self._n_texts[block] = 1
        return block

    def find(self, key: BlockKey) -> int | None:
        """The block that holds this content, for one text more; None if there is none."""
        block = self._block_of.get(key)
        if block is not None:
            self._n_texts[block] += 1
            self._resting.pop(block, None)
        return block

    def keep(self, block: int, key: BlockKey) -> None:
        """A block is full and will not change: it can be found by its key from now on.

        Where another block holds the same already, that one stays the one to be found.
        """
        if key not in self._block_of:
            self._block_of[key] = block
            self._key_of[block] = key

    def give_back(self, blocks: Iterable[int]) -> None:
        """One text less has each of these; of a whole text, the last block is reused first."""
        for block in reversed([*blocks]):
            self._n_texts[block] -= 1
            if self._n_texts[block]:
                continue
            if block in self._key_of:
                self._resting[block] = self._key_of[block]
            else:
                self._empty.append(block)
