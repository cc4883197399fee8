"""The words that a thread has met, with their tokens: text repeats its words.

A word of up to 15 bytes is looked up by these bytes themselves, a longer one by their hash, and
then the tokens found must spell it: a word is never taken for another.

The cache consists of lines of 64 bytes, as the processor's own cache does, so that looking for a
word fetches one line, whether it is there or not. A line holds two words of up to four tokens, or
one of up to eleven:

    bytes  0 - 15, 32 - 47: a word's key
          16 - 31, 48 - 63: its four tokens; of fewer or more, minus their number is the last

From the fourth on, the tokens of a longer word fill the second half. Nobody finds a key in them: a
key's last byte is not zero, and a token's is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at, load_8_bytes, prefetch, put

LINE = 16
"""Numbers of four bytes in a line."""

MOST_TOKENS = 11
SHORT = 15
LONGEST_KEPT = 64
BLOCK = 32
"""So many words are looked up at once, so that their lines come at the same time."""

PART = np.uint64(0x40) << np.uint64(56)
"""In the key of a part of a word, which is merged in any case, as a word may not be."""

_LONG = np.uint64(0xFF) << np.uint64(56)
_HALF = LINE // 2
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)


@inlined_kernel
def short_key(data: Any, start: int, end: int) -> Any:
    """The two numbers that make up the key of one to 15 bytes; seven more may be read."""
    length = end - start
    low = load_8_bytes(data, start)
    high = np.uint64(length) << np.uint64(56)
    if length < 8:
        return low & ((np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)), high
    rest = (np.uint64(1) << np.uint64(8 * (length - 8))) - np.uint64(1)
    return low, high | (load_8_bytes(data, start + 8) & rest)


@inlined_kernel
def line_of(cache: Any, low: np.uint64, high: np.uint64) -> np.intp:
    """The line in which a key has its place."""
    hashed = low * _MIX_1 ^ high * _MIX_2
    hashed ^= hashed >> np.uint64(32)
    hashed *= _MIX_1
    return np.intp(hashed >> np.uint64(40) & np.uint64(cache.size // LINE - 1))


@inlined_kernel
def find_lines(
    data: Any, start: int, ends: Any, cache: Any, lows: Any, highs: Any, lines: Any
) -> None:
    """The keys of some words, and their lines, which begin to travel near.

    Args:
        data: UTF-8 bytes.
        start: where the first word begins.
        ends: where each word ends.
        cache: int32, ``LINE`` numbers a line, whose number is a power of two.
        lows: the lower halves of the keys are written here.
        highs: and here the higher halves.
        lines: and here the lines.
    """
    for w in range(ends.size):
        end = at(ends, w)
        if end - start <= SHORT:
            low, high = short_key(data, start, end)
        else:
            low = hash_long(data, start, end)
            high = _LONG | np.uint64(end - start)
        line = line_of(cache, low, high)
        prefetch(cache, line * LINE)
        put(lows, w, low)
        put(highs, w, high)
        put(lines, w, line)
        start = end


@inlined_kernel
def hash_long(data: Any, start: int, end: int) -> np.uint64:
    """A hash of at least eight bytes."""
    hashed = np.uint64(end - start)
    for i in range(start, end - 7, 8):
        hashed = (hashed ^ load_8_bytes(data, i)) * _MIX_1
        hashed ^= hashed >> np.uint64(29)
    return (hashed ^ load_8_bytes(data, end - 8)) * _MIX_2


@inlined_kernel
def recall(cache: Any, line: int, low: np.uint64, high: np.uint64, ids: Any, first: int) -> np.intp:
    """Write the tokens of a word to ``ids``, from ``first`` on, at least four numbers.

    Returns:
        The number of tokens; 0 if the word is not there.
    """
    keys = cache.view(np.uint64)
    place = line * LINE
    if at(keys, line * _HALF) != low or at(keys, line * _HALF + 1) != high:
        place += _HALF
        if at(keys, line * _HALF + 4) != low or at(keys, line * _HALF + 5) != high:
            return 0
    for i in range(4):
        put(ids, first + i, at(cache, place + 4 + i))
    last = at(cache, place + 7)
    if last >= 0:
        return 4
    for i in range(3, -last):
        put(ids, first + i, at(cache, place + 5 + i))
    return -last


@lean_kernel
def remember(
    cache: Any, line: int, low: np.uint64, high: np.uint64, ids: Any, first: int, count: int
) -> None:
    """Write a word of one to ``MOST_TOKENS`` tokens into its line.

    Args:
        cache: see `find_lines`.
        line: the word's line.
        low: the lower half of its key.
        high: the higher half.
        ids: where its tokens stand ...
        first: ... from here on.
        count: how many they are.
    """
    keys = cache.view(np.uint64)
    place = line * LINE
    taken = at(keys, line * _HALF + 1) != 0
    long = taken and at(cache, place + 7) < -3
    if count > 4 or long:
        put(keys, line * _HALF + 5, np.uint64(0))
    elif taken:
        # If both are taken, which one gives way is as good as random.
        free = at(keys, line * _HALF + 5) == 0
        place += _HALF if free or first & 1 else 0
    put(keys, place // 2, low)
    put(keys, place // 2 + 1, high)
    for i in range(min(count, 4)):
        put(cache, place + 4 + i, at(ids, first + i))
    if count != 4:
        put(cache, place + 7, np.int32(-count))
    for i in range(3, count if count > 4 else 3):
        put(cache, place + 5 + i, at(ids, first + i))


@lean_kernel
def remember_tokens(tokens: Any, spelled: Any, offsets: Any, cache: Any) -> None:
    """Fill an empty cache with the words that are tokens; what comes first may push the rest out.

    Args:
        tokens: each spelled by up to ``SHORT`` bytes, int32.
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        cache: see `find_lines`.
    """
    for i in range(tokens.size - 1, -1, -1):
        token = at(tokens, i)
        low, high = short_key(spelled, at(offsets, token), at(offsets, token + 1))
        remember(cache, line_of(cache, low, high), low, high, tokens, i, 1)
