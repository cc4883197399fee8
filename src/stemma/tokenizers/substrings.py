"""Many stretches of one row of bytes, compared and decoded in one go.

A vocabulary has hundreds of thousands of tokens; a Python call for each would be most of the time
that loading takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

PADDING = bytes(8)
"""Behind every row, so that eight bytes may be read anywhere in it."""


@dataclass(frozen=True, eq=False)
class Substrings:
    """The stretches ``data[start : start + size]``.

    Args:
        data: the bytes, and `PADDING` behind them.
        starts: where each stretch begins.
        sizes: how long it is, in bytes.
    """

    data: bytes
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[bytes]) -> Self:
        """Rows of bytes, one after another."""
        sizes = np.fromiter(map(len, parts), np.int64, len(parts))
        return cls(b"".join((*parts, PADDING)), np.cumsum(sizes) - sizes, sizes)

    def some(self, which: NDArray[np.int64] | slice) -> Self:
        """Some of the stretches."""
        return type(self)(self.data, self.starts[which], self.sizes[which])

    def same_as(self, other: Substrings) -> bool:
        """Whether each stretch is the same as the other's at its place."""
        if not np.array_equal(self.sizes, other.sizes):
            return False
        return all(map(np.array_equal, self._words(), other._words()))

    def decoded(self) -> list[str] | None:
        """The stretches as texts; None if one is not UTF-8 or holds a null character.

        They must rise, with at least one byte between them, and leave one behind the last.
        """
        ends = self.starts + self.sizes
        data = np.frombuffer(self.data, np.uint8).copy()
        data[ends] = 0
        edges = np.zeros(data.size + 1, np.int8)
        edges[self.starts] = 1
        edges[ends + 1] -= 1
        try:
            texts = data[np.cumsum(edges[:-1], dtype=np.int8).view(np.bool_)].tobytes().decode()
        except UnicodeDecodeError:
            return None
        parts = texts.split("\0")
        return parts[:-1] if len(parts) == ends.size + 1 else None

    def _words(self) -> Iterator[NDArray[np.uint64]]:
        """Eight bytes of each stretch as a number; of those that are longer the next eight, ..."""
        at_byte = np.ndarray(len(self.data) - 7, "<u8", self.data, strides=(1,))
        starts, sizes = self.starts[self.sizes > 0], self.sizes[self.sizes > 0]
        while sizes.size:
            beyond = np.uint64(8) * (8 - np.minimum(sizes, 8)).astype(np.uint64)
            yield at_byte[starts] << beyond
            longer = sizes > 8
            starts, sizes = starts[longer] + 8, sizes[longer] - 8
