"""Which pairs of tokens merge, and when: a hash table of pair and rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at, prefetch

ID_BITS = 21
"""A pair of tokens and the rank of its merge are kept in one number of three times so many bits."""

ID_MASK = (1 << ID_BITS) - 1

SIEVE_BITS = 21
SIEVE = 1 << SIEVE_BITS - 6
"""Numbers of 64 bits in the sieve of `find_pair`."""

NEVER = np.int32(0x7FFFFFFF)
"""The rank of a pair that is not merged."""

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""What stands in the table where no pair does."""

WIDE_ID_BITS = np.uint64(ID_BITS)
_RANK = np.uint64(ID_MASK)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined_kernel
def find_pair(pairs: Any, left: int, right: int) -> np.int32:
    """The rank of the merge of two tokens; ``NEVER`` if they do not merge.

    Most pairs do not, and most of those are told by one bit of a small table.

    Args:
        pairs: uint64: ``SIEVE`` numbers, of whose bits a pair's is set, then a hash table of pair
            and rank, whose size is a power of two.
        left: a token.
        right: the token after it.
    """
    key = np.uint64(left) << WIDE_ID_BITS | np.uint64(right)
    hashed = key * _MIX
    bit = hashed >> np.uint64(64 - SIEVE_BITS)
    if not at(pairs, np.intp(bit >> np.uint64(6))) >> (bit & np.uint64(63)) & np.uint64(1):
        return NEVER
    mask = np.uint64(pairs.size - SIEVE - 1)
    slot = hashed >> np.uint64(24) & mask
    while True:
        found = at(pairs, SIEVE + np.intp(slot))
        if found >> WIDE_ID_BITS == key:
            return np.int32(found & _RANK)
        if found == EMPTY:
            return NEVER
        slot = (slot + np.uint64(1)) & mask


@inlined_kernel
def prefetch_pair(pairs: Any, left: int, right: int) -> None:
    """Let the place of a pair in the table of `find_pair` be brought near."""
    key = np.uint64(left) << WIDE_ID_BITS | np.uint64(right)
    mask = np.uint64(pairs.size - SIEVE - 1)
    prefetch(pairs, SIEVE + np.intp(key * _MIX >> np.uint64(24) & mask))


@inlined_kernel
def result_of(results: Any, rank: int) -> np.int32:
    """The token that a merge makes; see `merge_small`."""
    return np.int32(rank) if results.size == 0 else at(results, rank)


@lean_kernel
def add_pair(pairs: Any, left: int, right: int, rank: int) -> None:
    """Put a pair into the table of `find_pair`."""
    key = np.uint64(left) << WIDE_ID_BITS | np.uint64(right)
    hashed = key * _MIX
    bit = hashed >> np.uint64(64 - SIEVE_BITS)
    pairs[np.intp(bit >> np.uint64(6))] |= np.uint64(1) << (bit & np.uint64(63))
    mask = np.uint64(pairs.size - SIEVE - 1)
    slot = hashed >> np.uint64(24) & mask
    while pairs[SIEVE + np.intp(slot)] != EMPTY:
        slot = (slot + np.uint64(1)) & mask
    pairs[SIEVE + np.intp(slot)] = key << WIDE_ID_BITS | np.uint64(rank)


@lean_kernel
def index_merges(merges: Any, pairs: Any) -> None:
    """Fill the table of `find_pair` from a list of merges.

    Args:
        merges: pairs of tokens, int32, of shape (n, 2), each once; the rank is the place there.
        pairs: uint64, all ones; room for twice as many pairs.
    """
    for rank in range(len(merges)):
        add_pair(pairs, merges[rank, 0], merges[rank, 1], rank)


@lean_kernel
def index_byte_pairs(byte_ids: Any, pairs: Any, byte_pairs: Any) -> None:
    """Fill the table of the ranks of pairs of bytes, int32 of 65,536."""
    for left in range(256):
        for right in range(256):
            rank = NEVER
            if byte_ids[left] >= 0 and byte_ids[right] >= 0:
                rank = find_pair(pairs, byte_ids[left], byte_ids[right])
            byte_pairs[left << 8 | right] = rank
