"""A trie in one array: from a node with base ``b``, byte ``c`` leads to cell ``b ^ c``.

The cell belongs to that node if it bears the label ``c``, because no two nodes have the same base.
So a step costs one look into the array. A cell holds, from its lowest bit on, the label (8 bits),
whether it is taken, whether a string ends there, and its own base.

Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.kernels import kernel, lean_kernel

TAKEN = 1 << 8
ENDS = 1 << 9
BASE_SHIFT = 10
MOST_CELLS = 1 << (32 - BASE_SHIFT)

_DEAD = 0
"""The base of a node without children; no other node has it."""

_TRIES = 256
_BLOCK = 256


def double_array(strings: list[bytes]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """The trie of distinct strings, none of them empty.

    Returns:
        The cells, of which the first is the root; and for each cell where a string ends, its place
        in ``strings``.

    Raises:
        TokenizerError: if there are too many for 22 bits.
    """
    order = sorted(range(len(strings)), key=strings.__getitem__)
    data = np.frombuffer(b"".join(strings[i] for i in order) + b"\0", np.uint8)
    starts = np.cumsum([0, *(len(strings[i]) for i in order)])
    size = _BLOCK * (2 + 3 * len(strings) // _BLOCK)
    while size <= MOST_CELLS:
        cells = np.zeros(size, np.uint32)
        ends = np.full(size, -1, np.int32)
        if fill(data, starts, np.array(order, np.int32), cells, ends):
            last = int(np.flatnonzero(cells).max(initial=0))
            kept = (last // _BLOCK + 1) * _BLOCK
            return cells[:kept].copy(), ends[:kept].copy()
        size *= 2
    raise TokenizerError("the vocabulary is too large for the fast path")


@kernel
def fill(data: Any, starts: Any, order: Any, cells: Any, ends: Any) -> bool:
    """Fill the cells of `double_array`; false if there are too few.

    Args:
        data: all strings, sorted, one after another.
        starts: where each begins; one more for the end.
        order: the number of each.
        cells: zeros; the size is a multiple of 256.
        ends: the number of the string that ends at each cell.
    """
    used = np.zeros(cells.size, np.bool_)
    used[_DEAD] = True
    cells[0] = TAKEN  # the root: no node's child, which is why the mark goes at the end
    lows = np.zeros(starts.size, np.int32)  # nodes to come: a range of strings each, ...
    highs = np.full(starts.size, starts.size - 1, np.int32)
    depths, nodes = np.zeros(starts.size, np.int32), np.zeros(starts.size, np.int32)  # ... a cell
    labels, firsts = np.empty(_BLOCK, np.int32), np.empty(_BLOCK + 1, np.int32)
    free = 1
    waiting = 1
    while waiting:
        waiting -= 1
        low, high, depth, node = lows[waiting], highs[waiting], depths[waiting], nodes[waiting]
        if low < high and starts[low] + depth == starts[low + 1]:
            cells[node] |= ENDS
            ends[node] = order[low]
            low += 1
        n = _children(data, starts, low, high, depth, labels, firsts)
        if n == 0:
            continue
        base, free = _find_base(cells, used, labels, n, free)
        if base < 0:
            return False
        used[base] = True
        cells[node] |= np.uint32(base << BASE_SHIFT)
        for i in range(n):
            child = base ^ labels[i]
            cells[child] = TAKEN | labels[i]
            lows[waiting], highs[waiting] = firsts[i], firsts[i + 1]
            depths[waiting], nodes[waiting] = depth + 1, child
            waiting += 1
    cells[0] -= TAKEN
    return True


@lean_kernel
def _children(
    data: Any, starts: Any, low: int, high: int, depth: int, labels: Any, firsts: Any
) -> int:
    """The different bytes at ``depth`` of the strings ``low:high``, and where each first comes."""
    n = 0
    for i in range(low, high):
        label = data[starts[i] + depth]
        if n == 0 or label != labels[n - 1]:
            labels[n], firsts[n] = label, i
            n += 1
    firsts[n] = high
    return n


@lean_kernel
def _find_base(cells: Any, used: Any, labels: Any, n: int, free: int) -> tuple[int, int]:
    """A base for which all children's cells are free, and where to look for the next one.

    After many tries in vain the cells passed are left as they are: they are nearly full.
    """
    while free < cells.size and cells[free] & TAKEN:
        free += 1
    tries = 0
    for cell in range(free, cells.size):
        if cells[cell] & TAKEN:
            continue
        base = cell ^ labels[0]
        fits = not used[base]
        i = 1
        while fits and i < n:
            fits = not cells[base ^ labels[i]] & TAKEN
            i += 1
        if fits:
            return base, free
        tries += 1
        if tries == _TRIES:
            free = cell
    return -1, free


@lean_kernel
def find(cells: Any, ends: Any, data: Any, start: int, end: int) -> int:
    """The number of the string ``data[start:end]``; -1 if it is not in the trie."""
    cell = np.intp(0)
    for i in range(start, end):
        byte = np.intp(data[i])
        cell = np.intp(cells[cell] >> BASE_SHIFT) ^ byte
        if cells[cell] & 0x1FF != byte | TAKEN:
            return -1
    return np.intp(ends[cell])
