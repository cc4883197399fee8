"""Counting words in a hash table: the fast form of ``Counter.update``.

A word of at most seven bytes is its own key: the bytes, and the length above them. A longer one has
the highest bit set and a hash below it; there the bytes are compared. The table holds key and count
of a word side by side, because each word of a text means one look at it, and memory is far away.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.memory import load_8_bytes, prefetch

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_LONG = np.uint64(1 << 63)
_ONE = np.uint64(1)
_32 = np.uint64(32)
_56 = np.uint64(56)

_AHEAD = 64
"""So many words are looked up at once, their slots asked for before they are needed."""


@kernel
def add_words(
    slots: Any,
    numbers: Any,
    words: Any,
    word_ends: Any,
    used: Any,
    data: Any,
    ends: Any,
    weights: Any,
    first: Any,
) -> Any:
    """Add words to a table, as far as there is room.

    Args:
        slots: key and count, uint64 of shape (a power of two, 2); key 0 where there is no word.
        numbers: the number of each slot's word, int32.
        words: the bytes of the words known, one after another, uint8.
        word_ends: where each ends, int64.
        used: how many words and how many bytes there are, int64.
        data: the bytes of the words to add, one after another, uint8; at least eight, which need
            not all be words.
        ends: where each ends, int32.
        weights: how often to count each, int64; if empty, once.
        first: the number of the first one to add.

    Returns:
        How many words have been added, with the ``first`` ones; fewer than there are where the
        table has to grow.
    """
    keys = np.empty(_AHEAD, np.uint64)
    start = np.int64(ends[first - 1]) if first else np.int64(0)
    for some in range(first, ends.size, _AHEAD):
        n_some = min(_AHEAD, ends.size - some)
        begin = start
        for i in range(n_some):
            end = np.int64(ends[some + i])
            if end - begin < 8:
                keys[i] = short_key(data, begin, end)
            else:
                keys[i] = long_key(data, begin, end)
            prefetch(slots, 2 * home(slots, keys[i]))
            begin = end
        for i in range(n_some):
            key, end = keys[i], np.int64(ends[some + i])
            n = end - start
            slot = home(slots, key)
            while slots[slot, 0] != 0:
                if slots[slot, 0] == key:
                    if not key & _LONG:
                        break
                    number = numbers[slot]
                    at = word_ends[number - 1] if number else np.int64(0)
                    if word_ends[number] - at == n and same_bytes(words, at, data, start, n):
                        break
                slot = (slot + 1) & (slots.shape[0] - 1)
            if slots[slot, 0] == 0:
                number, at = used[0], used[1]
                if number == word_ends.size or at + n > words.size:
                    return some + i
                slots[slot, 0] = key
                numbers[slot] = number
                for j in range(n):
                    words[at + j] = data[start + j]
                word_ends[number] = at + n
                used[0], used[1] = number + 1, at + n
            slots[slot, 1] += np.uint64(weights[some + i]) if weights.size else _ONE
            start = end
    return ends.size


@inlined_kernel
def home(slots: Any, key: Any) -> Any:
    """The slot where the search for a word begins."""
    return np.int64(key * _PRIME >> _32) & (slots.shape[0] - 1)


@lean_kernel
def move_slots(slots: Any, numbers: Any, new_slots: Any, new_numbers: Any) -> None:
    """Fill a larger, empty table with the words of another."""
    for old in range(slots.shape[0]):
        key = slots[old, 0]
        if key != 0:
            slot = home(new_slots, key)
            while new_slots[slot, 0] != 0:
                slot = (slot + 1) & (new_slots.shape[0] - 1)
            new_slots[slot, 0], new_slots[slot, 1] = key, slots[old, 1]
            new_numbers[slot] = numbers[old]


@lean_kernel
def take_counts(slots: Any, numbers: Any, counts: Any) -> None:
    """Write each word's count at its number."""
    for slot in range(slots.shape[0]):
        if slots[slot, 0] != 0:
            counts[numbers[slot]] = slots[slot, 1]


@inlined_kernel
def short_key(data: Any, start: Any, end: Any) -> Any:
    """The key of a word of at most seven bytes."""
    at = min(start, data.size - 8)
    n_bits = np.uint64(8 * (end - start))
    key = load_8_bytes(data, at) >> np.uint64(8 * (start - at))
    return key & ((_ONE << n_bits) - _ONE) | np.uint64(end - start) << _56


@inlined_kernel
def long_key(data: Any, start: Any, end: Any) -> Any:
    """The key of a word of eight bytes or more."""
    key = np.uint64(end - start)
    for i in range(start, end - 8, 8):
        key = (key ^ load_8_bytes(data, i)) * _PRIME
        key ^= key >> _32
    key = (key ^ load_8_bytes(data, end - 8)) * _PRIME
    return (key ^ key >> _32) | _LONG


@inlined_kernel
def same_bytes(a: Any, a_start: Any, b: Any, b_start: Any, n: Any) -> Any:
    """Whether ``n`` bytes of two texts agree; at least eight."""
    for i in range(0, n - 8, 8):
        if load_8_bytes(a, a_start + i) != load_8_bytes(b, b_start + i):
            return False
    return load_8_bytes(a, a_start + n - 8) == load_8_bytes(b, b_start + n - 8)
