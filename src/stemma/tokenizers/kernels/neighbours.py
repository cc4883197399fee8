"""Between which two characters nothing is ever merged, because no token has them side by side.

Whatever reaches over the edge between two characters makes a token in which they are neighbours.
Where no token has them so, a word falls into parts that are encoded each by itself: a text of
Chinese, whose words are whole clauses, falls into parts of one to three characters, which come
again and again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at
from stemma.tokenizers.kernels.scan import character_size, code_point

_BITS = 20
SIZE = 1 << _BITS - 6
"""Numbers of 64 bits in a table of neighbours: one bit for two characters, and for some others."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined_kernel
def are_neighbours(table: Any, before: int, after: int) -> bool:
    """Whether two characters may stand side by side in a token.

    Args:
        table: uint64, ``SIZE`` numbers.
        before: a character.
        after: the one after it.
    """
    bit = _bit(before, after)
    return at(table, np.intp(bit >> np.uint64(6))) >> (bit & np.uint64(63)) & np.uint64(1) != 0


@inlined_kernel
def _bit(before: int, after: int) -> np.uint64:
    pair = np.uint64(before) << np.uint64(21) | np.uint64(after)
    return pair * _MIX >> np.uint64(64 - _BITS)


@lean_kernel
def add_two(table: Any, before: int, after: int) -> None:
    """Note that two characters stand side by side in a token."""
    bit = _bit(before, after)
    table[np.intp(bit >> np.uint64(6))] |= np.uint64(1) << (bit & np.uint64(63))


@lean_kernel
def add_all(table: Any, data: Any, start: int, end: int) -> None:
    """Note which characters stand side by side in ``data[start:end]``."""
    i = start
    while i < end:
        following = i + character_size(data[i])
        if following < end:
            add_two(table, code_point(data, i), code_point(data, following))
        i = following


@kernel
def table_of(data: Any, limits: Any) -> Any:
    """The table of some strings.

    Args:
        data: the strings, UTF-8, one after another, and 3 bytes more.
        limits: where each begins, and the last ends.
    """
    table = np.zeros(SIZE, np.uint64)
    for i in range(limits.size - 1):
        add_all(table, data, limits[i], limits[i + 1])
    return table
