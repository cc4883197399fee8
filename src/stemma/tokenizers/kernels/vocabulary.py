"""The bytes of all tokens, and finding the token that spells some bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at, load_8_bytes, store_8_bytes

_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined_kernel
def find_whole(whole: Any, data: Any, start: int, end: int, spelled: Any, offsets: Any) -> int:
    """The token that spells the bytes ``start:end``, or -1.

    Args:
        whole: hash table of tokens, int32, -1 where it is empty; its size is a power of two.
        data: the bytes, and at least seven more behind them.
        start: where they begin.
        end: where they end.
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
    """
    mask = whole.size - 1
    slot = hash_bytes(data, start, end) & mask
    while True:
        token = at(whole, slot)
        if token < 0:
            return -1
        first = at(offsets, token)
        if at(offsets, token + 1) - first == end - start:
            same = True
            for i in range(end - start):
                if at(spelled, first + i) != at(data, start + i):
                    same = False
                    break
            if same:
                return token
        slot = (slot + 1) & mask


@inlined_kernel
def hash_bytes(data: Any, start: int, end: int) -> int:
    """A hash of some bytes, behind which seven more may be read; never negative."""
    hashed = np.uint64(end - start)
    i = start
    while i + 8 <= end:
        hashed = (hashed ^ load_8_bytes(data, i)) * _MIX
        hashed ^= hashed >> np.uint64(29)
        i += 8
    rest = (np.uint64(1) << np.uint64(8 * (end - i))) - np.uint64(1)
    hashed = (hashed ^ (load_8_bytes(data, i) & rest)) * _MIX
    hashed = (hashed ^ hashed >> np.uint64(32)) * _MIX
    return np.intp(hashed >> np.uint64(30))


@lean_kernel
def index_tokens(spelled: Any, offsets: Any, chosen: Any, whole: Any) -> int:
    """Fill the hash table of `find_whole`; returns a token that spells the same as another, or -1.

    Args:
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        chosen: the tokens to put in, int32.
        whole: int32, all -1; its size is a power of two and more than the number of tokens.
    """
    mask = whole.size - 1
    for token in chosen:
        start, end = offsets[token], offsets[token + 1]
        if find_whole(whole, spelled, start, end, spelled, offsets) >= 0:
            return token
        slot = hash_bytes(spelled, start, end) & mask
        while whole[slot] >= 0:
            slot = (slot + 1) & mask
        whole[slot] = token
    return -1


@inlined_kernel
def spells(ids: Any, first: int, n: int, data: Any, start: int, spelled: Any, offsets: Any) -> bool:
    """Whether tokens, joined, are the bytes of ``data`` from ``start`` on."""
    place = start
    for i in range(n):
        token = at(ids, first + i)
        for j in range(at(offsets, token), at(offsets, token + 1)):
            if at(spelled, j) != at(data, place):
                return False
            place += 1
    return True


@lean_kernel
def joined_size(ids: Any, offsets: Any) -> int:
    """The number of bytes of tokens, joined."""
    n = 0
    for i in range(ids.size):
        token = at(ids, i)
        n += at(offsets, token + 1) - at(offsets, token)
    return n


@lean_kernel
def join_tokens(ids: Any, spelled: Any, offsets: Any, joined: Any) -> None:
    """Write the bytes of tokens one after another.

    Args:
        ids: int32.
        spelled: the bytes of all tokens, uint8, with at least 16 more behind them.
        offsets: where each token begins in ``spelled``, int64.
        joined: uint8, room for all bytes and 16 more.
    """
    place = 0
    for i in range(ids.size):
        token = at(ids, i)
        first = at(offsets, token)
        length = at(offsets, token + 1) - first
        # Nearly all tokens are shorter than 16 bytes: two stores, and nothing to mispredict.
        store_8_bytes(joined, place, load_8_bytes(spelled, first))
        store_8_bytes(joined, place + 8, load_8_bytes(spelled, first + 8))
        for j in range(16, length, 8):
            store_8_bytes(joined, place + j, load_8_bytes(spelled, first + j))
        place += length
