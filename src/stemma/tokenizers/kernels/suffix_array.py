"""Machine code for suffix arrays; the readable twins are in `unigram.suffix_array`."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel


@kernel
def kasai(symbols: Any, order: Any) -> Any:
    """How many symbols each suffix shares with the one before it in the order."""
    n = len(order)
    rank = np.empty(n, np.int64)
    for i in range(n):
        rank[order[i]] = i
    lengths = np.zeros(n, np.int32)
    shared = 0
    for i in range(n):
        if rank[i] == 0:
            shared = 0
            continue
        other = order[rank[i] - 1]
        last = n - max(i, other)
        while shared < last and symbols[i + shared] == symbols[other + shared]:
            shared += 1
        lengths[rank[i]] = shared
        shared = max(shared - 1, 0)
    return lengths


@kernel
def repeats(shared: Any, room: Any) -> Any:
    """All maximal runs of suffixes that begin alike, and how long their common beginning is.

    A run is as long as its common beginning allows: these are the nodes of the suffix tree. Each
    suffix by itself is one too (a leaf) where it is longer than what it shares with a neighbour.

    Args:
        shared: int32[n]: what each suffix shares with the one before it, at most its ``room``.
        room: int32[n]: how many symbols of each suffix count, in sorted order.

    Returns:
        left, right, length: int64, int64, int32; the run is ``order[left:right]``.
    """
    n = len(shared)
    left = np.empty(2 * n, np.int64)
    right = np.empty(2 * n, np.int64)
    length = np.empty(2 * n, np.int32)
    found = 0
    deepest = 1
    for i in range(n):
        deepest = max(deepest, shared[i] + 2)
    open_left = np.zeros(deepest, np.int64)  # runs not yet at their end, ever deeper
    open_length = np.zeros(deepest, np.int32)
    top = 0
    for i in range(1, n + 1):
        here = shared[i] if i < n else 0
        start = i - 1
        if room[start] > max(here, shared[start]):
            left[found] = start
            right[found] = i
            length[found] = room[start]
            found += 1
        while open_length[top] > here:
            start = open_left[top]
            left[found] = start
            right[found] = i
            length[found] = open_length[top]
            found += 1
            top -= 1
        if open_length[top] < here:
            top += 1
            open_left[top] = start
            open_length[top] = here
    return left[:found], right[:found], length[:found]
