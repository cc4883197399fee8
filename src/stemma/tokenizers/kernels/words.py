"""Encoding words by BPE, behind a cache of words.

Text repeats its words. A word of up to 15 bytes is looked up by these bytes themselves, a longer
one by their hash, and then the tokens found must spell it: a word is never taken for another. An
entry is one line of the processor's cache: two numbers of eight bytes for the word, the number of
its tokens, and up to eleven of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel
from stemma.tokenizers.kernels.memory import at, load_8_bytes, prefetch, put
from stemma.tokenizers.kernels.merging import SCRATCH, SMALL, merge_large, merge_small
from stemma.tokenizers.kernels.vocabulary import find_whole, spells

ENTRY = 16
"""Numbers of four bytes in an entry: the word (4), the number of tokens (1), tokens (11)."""

_MOST_TOKENS = ENTRY - 5
_SHORT = 15
_LONGEST_CACHED = 64
_BLOCK = 32
"""So many words are looked up at once, so that the cache's lines come at the same time."""

_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_LONG_MARK = np.uint64(0xFF) << np.uint64(56)


@kernel
def encode_words(
    data: Any,
    ends: Any,
    limits: Any,
    byte_ids: Any,
    byte_pairs: Any,
    characters: Any,
    pairs: Any,
    results: Any,
    whole: Any,
    spelled: Any,
    offsets: Any,
    cache: Any,
    ids: Any,
    first_id: int,
    n_at_limits: Any,
) -> int:
    """Encode words one after another.

    Args:
        data: UTF-8 bytes, uint8, with at least 16 more behind the text.
        ends: where each word ends, int32.
        limits: where each of several texts ends, int32; a word ends there as well.
        byte_ids: the token of each byte, int32.
        byte_pairs: see `merge_small`.
        characters: see `index_characters`.
        pairs: see `find_pair`.
        results: see `merge_small`, int32.
        whole: hash table of the tokens that a word of their bytes becomes, see `find_whole`.
        spelled: the bytes of all tokens, one after another, uint8.
        offsets: where each token begins in ``spelled``, int64.
        cache: entries, int32, ``ENTRY`` numbers each; their number is a power of two.
        ids: int32, room for as many as there are bytes, from ``first_id`` on.
        first_id: where to begin in ``ids``.
        n_at_limits: int64; how many ids there are before each limit is written here.

    Returns:
        The number of ids, counted from the beginning of ``ids``.
    """
    cache_8 = cache.view(np.uint64)
    scratch = np.empty(SCRATCH, np.int32)
    lows = np.empty(_BLOCK, np.uint64)
    highs = np.empty(_BLOCK, np.uint64)
    slots = np.empty(_BLOCK, np.intp)
    n = first_id
    start = 0
    text = 0
    for block in range(0, ends.size, _BLOCK):
        block_ends = ends[block : block + _BLOCK]
        find_slots(data, start, block_ends, cache_8, lows, highs, slots)
        for w in range(block_ends.size):
            end = at(block_ends, w)
            low, high, slot = at(lows, w), at(highs, w), at(slots, w)
            length = end - start
            hit = False
            for way in range(2):
                entry = slot ^ way
                if at(cache_8, entry * 8) == low and at(cache_8, entry * 8 + 1) == high:
                    count = at(cache, entry * ENTRY + 4)
                    put(ids, n, at(cache, entry * ENTRY + 5))
                    for i in range(1, count):
                        put(ids, n + i, at(cache, entry * ENTRY + 5 + i))
                    if length <= _SHORT or spells(ids, n, count, data, start, spelled, offsets):
                        n += count
                        hit = True
                        break
            if not hit:
                token = find_whole(whole, data, start, end, spelled, offsets)
                if token >= 0:
                    put(ids, n, np.int32(token))
                    count = 1
                elif length <= SMALL:
                    word = (data, start, end, byte_ids, byte_pairs, characters)
                    count = merge_small(*word, pairs, results, ids, n, scratch)
                else:
                    count = merge_large(data, start, end, byte_ids, pairs, results, ids, n)
                if count <= _MOST_TOKENS and length <= _LONGEST_CACHED:
                    remember(cache, cache_8, slot, low, high, ids, n, count)
                n += count
            start = end
            while text < limits.size and at(limits, text) <= start:
                put(n_at_limits, text, n)
                text += 1
    while text < limits.size:
        put(n_at_limits, text, n)
        text += 1
    return n


@kernel
def remember(
    cache: Any,
    cache_8: Any,
    slot: int,
    low: Any,
    high: Any,
    ids: Any,
    first: int,
    count: int,
) -> None:
    """Write a word's tokens to one of its two places, a free one if there is one.

    Args:
        cache: see `encode_words`.
        cache_8: the same, as numbers of eight bytes.
        slot: the word's first place; the other is beside it.
        low: the lower half of its key.
        high: the higher half.
        ids: where its tokens stand ...
        first: ... from here on.
        count: how many they are.
    """
    entry = slot
    if at(cache_8, entry * 8 + 1) != 0:
        # Both taken: which one gives way is as good as random.
        free = at(cache_8, (entry ^ 1) * 8 + 1) == 0
        entry ^= 1 if free else first & 1
    put(cache_8, entry * 8, low)
    put(cache_8, entry * 8 + 1, high)
    put(cache, entry * ENTRY + 4, np.int32(count))
    for i in range(count):
        put(cache, entry * ENTRY + 5 + i, at(ids, first + i))


@kernel
def find_slots(
    data: Any, start: int, ends: Any, cache_8: Any, lows: Any, highs: Any, slots: Any
) -> None:
    """The keys of some words and their places in the cache, which begin to travel near.

    A key is up to 15 bytes and their number, or a hash and the mark of long words.

    Args:
        data: UTF-8 bytes.
        start: where the first word begins.
        ends: where each word ends.
        cache_8: the cache, as numbers of eight bytes.
        lows: the lower halves of the keys are written here.
        highs: and here the higher halves.
        slots: and here the places.
    """
    mask = np.uint64(cache_8.size // 8 - 1)
    for w in range(ends.size):
        end = at(ends, w)
        length = end - start
        if length <= _SHORT:
            low = load_8_bytes(data, start)
            high = np.uint64(length) << np.uint64(56)
            if length < 8:
                low &= (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)
            else:
                rest = (np.uint64(1) << np.uint64(8 * (length - 8))) - np.uint64(1)
                high |= load_8_bytes(data, start + 8) & rest
            hashed = low * _MIX_1 ^ high * _MIX_2
        else:
            low = hash_long(data, start, end)
            high = _LONG_MARK | np.uint64(length)
            hashed = low
        hashed ^= hashed >> np.uint64(32)
        hashed *= _MIX_1
        slot = np.intp(hashed >> np.uint64(40) & mask)
        prefetch(cache_8, slot * 8)
        put(lows, w, low)
        put(highs, w, high)
        put(slots, w, slot)
        start = end


@kernel
def hash_long(data: Any, start: int, end: int) -> np.uint64:
    """A hash of at least eight bytes."""
    hashed = np.uint64(end - start)
    for i in range(start, end - 7, 8):
        hashed = (hashed ^ load_8_bytes(data, i)) * _MIX_1
        hashed ^= hashed >> np.uint64(29)
    return (hashed ^ load_8_bytes(data, end - 8)) * _MIX_2
