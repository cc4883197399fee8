"""The pairs of tokens, how often they occur and where: a hash table, lists of places, a heap.

Places are never taken out of a list: one is passed over if the two tokens no longer stand there.
Common pairs are in the heap, rarer ones only in the table: once the heap is empty, it is filled
with pairs half as common. A count in the heap that has fallen is put right when it comes up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.training_corpus import NOTHING

KEY, COUNT, START, LENGTH = range(4)
"""Columns of the table of pairs; a key of 0 is no pair's."""

TOKENS, MERGES, USED, FILLED, HEAPED, FLOOR, NEEDED = range(7)
"""Numbers that change, see `Pairs`."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_32 = np.uint64(32)


class Pairs(NamedTuple):
    """What is known of pairs.

    Args:
        table: hash table, int64 of shape (a power of two, 4): the pair as one number, its count,
            where its places begin in ``places``, how many they are.
        places: where pairs begin in the row of cells, int32; of each pair, rising.
        heap: count and key of all pairs whose count is at least the floor, int64; a count may have
            fallen since.
        by_id: what the merge at hand changes on either side: for each neighbour in how many places
            it was seen, the weight of their words, and the slot of its new pair, int64 of shape
            (2, n_ids, 3).
        ids: the neighbours seen, int32 of shape (2, n_ids + 1).
        events: neighbour and place of each new pair, int32 of shape (2, n, 2).
        n_changes: numbers of ids and of events on either side, int64 of shape (2, 2).
        listed: the lengths of all lists of places of pairs with an id, summed, int64.
        state: numbers of tokens, of merges written, of slots and places used, of pairs in the heap;
            the floor; the size that an array needs; int64.
    """

    table: Any
    places: Any
    heap: Any
    by_id: Any
    ids: Any
    events: Any
    n_changes: Any
    listed: Any
    state: Any


@inlined_kernel
def pair_key(left: Any, right: Any) -> Any:
    """The pair as one number, not 0; smaller pairs have smaller ones."""
    return (np.int64(left) << 32 | np.int64(right)) + 1


@inlined_kernel
def pair_of(key: Any) -> Any:
    """The pair of a key."""
    return (key - 1) >> 32, (key - 1) & 0xFFFFFFFF


@inlined_kernel
def home(table: Any, key: Any) -> Any:
    """The slot where the search for a pair begins."""
    return np.int64(np.uint64(key) * _PRIME >> _32) & (table.shape[0] - 1)


@inlined_kernel
def find(table: Any, key: Any) -> Any:
    """The slot of a pair, or the free one where it belongs."""
    slot = home(table, key)
    while table[slot, KEY] != key and table[slot, KEY] != 0:
        slot = (slot + 1) & (table.shape[0] - 1)
    return slot


@lean_kernel
def find_or_add(table: Any, state: Any, key: Any) -> Any:
    """The slot of a pair, which is given one if it has none."""
    slot = find(table, key)
    state[USED] += table[slot, KEY] == 0
    table[slot, KEY] = key
    return slot


@lean_kernel
def move_pairs(table: Any, new_table: Any, state: Any) -> None:
    """Fill an empty table with the pairs of another that still occur."""
    state[USED] = 0
    for old in range(table.shape[0]):
        if table[old, COUNT] > 0:
            slot = find_or_add(new_table, state, table[old, KEY])
            for column in (COUNT, START, LENGTH):
                new_table[slot, column] = table[old, column]


@lean_kernel
def lower_floor(pairs: Pairs, least: Any) -> Any:
    """Lower the floor of an empty heap to half of the highest count, but not below ``least``.

    Returns:
        How many pairs are so common.
    """
    table = pairs.table
    most = np.int64(0)
    for slot in range(table.shape[0]):
        most = max(most, table[slot, COUNT])
    floor = max(least, most // 2)
    n = 0
    for slot in range(table.shape[0]):
        n += table[slot, COUNT] >= floor
    pairs.state[FLOOR] = floor
    return n


@lean_kernel
def fill_heap(pairs: Pairs) -> None:
    """Put all pairs into the empty heap that are not below the floor."""
    table, heap, state = pairs.table, pairs.heap, pairs.state
    for slot in range(table.shape[0]):
        if table[slot, COUNT] >= state[FLOOR]:
            push(heap, state, table[slot, COUNT], table[slot, KEY])


@lean_kernel
def commonest(pairs: Pairs) -> Any:
    """The slot of the first pair in the heap, or `NOTHING` if the heap is empty."""
    table, heap, state = pairs.table, pairs.heap, pairs.state
    while state[HEAPED]:
        count, key = heap[0, 0], heap[0, 1]
        slot = find(table, key)
        now = table[slot, COUNT]
        if now == count:
            return slot
        drop_first(heap, state)
        if state[FLOOR] <= now < count:
            push(heap, state, now, key)
    return NOTHING


@lean_kernel
def push(heap: Any, state: Any, count: Any, key: Any) -> None:
    """Put a pair into the heap."""
    at = state[HEAPED]
    state[HEAPED] += 1
    while at > 0:
        above = (at - 1) >> 1
        if not goes_first(count, key, heap[above, 0], heap[above, 1]):
            break
        heap[at, 0], heap[at, 1] = heap[above, 0], heap[above, 1]
        at = above
    heap[at, 0], heap[at, 1] = count, key


@lean_kernel
def drop_first(heap: Any, state: Any) -> None:
    """Take the first pair out of the heap."""
    state[HEAPED] -= 1
    n = state[HEAPED]
    count, key = heap[n, 0], heap[n, 1]
    at = 0
    while 2 * at + 1 < n:
        below = 2 * at + 1
        if below + 1 < n and goes_first(
            heap[below + 1, 0], heap[below + 1, 1], heap[below, 0], heap[below, 1]
        ):
            below += 1
        if not goes_first(heap[below, 0], heap[below, 1], count, key):
            break
        heap[at, 0], heap[at, 1] = heap[below, 0], heap[below, 1]
        at = below
    heap[at, 0], heap[at, 1] = count, key


@inlined_kernel
def goes_first(count: Any, key: Any, other_count: Any, other_key: Any) -> Any:
    """Whether a pair is merged before another: the commoner one, of equal ones the smaller."""
    return count > other_count or (count == other_count and key < other_key)
