"""Merging one word: the fast forms of `bpe.merge.merge_word` and `merge_long_word`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.characters import ANYWHERE, JOINS, KNOWN, TOKEN, TOKEN_BITS
from stemma.tokenizers.kernels.memory import at, put
from stemma.tokenizers.kernels.merge_table import NEVER, find_pair, prefetch_pair, result_of
from stemma.tokenizers.kernels.scan import code_point

PLACE_BITS = 8
SMALL = 1 << PLACE_BITS
"""Above so many bytes a word is merged with a heap."""

PLACES = (4, SMALL + 16)
"""The shape of what `merge_small` writes to."""

LAST = NEVER >> PLACE_BITS
"""The rank of a pair that is not merged, where a place is kept beside it."""

_PLACE = SMALL - 1


class Merging(NamedTuple):
    """What decides how bytes are merged.

    Args:
        byte_ids: the token of each byte, int32, or -1.
        byte_pairs: the rank of each pair of bytes, int32, ``NEVER`` where they do not merge.
        characters: see `index_characters`.
        neighbours: see `are_neighbours`.
        pairs: see `find_pair`.
        results: the token that each merge makes, int32; empty if its number is the merge's rank.
    """

    byte_ids: Any
    byte_pairs: Any
    characters: Any
    neighbours: Any
    pairs: Any
    results: Any


@lean_kernel
def merge(
    data: Any, start: int, end: int, merging: Any, ids: Any, first: int, places: Any
) -> np.intp:
    """Merge one word of any length; see `merge_small`."""
    if end - start <= SMALL:
        return merge_small(data, start, end, merging, ids, first, places)
    return merge_large(data, start, end, merging, ids, first)


@inlined_kernel
def merge_small(
    data: Any,
    start: int,
    end: int,
    merging: Any,
    ids: Any,
    first: int,
    places: Any,
) -> np.intp:
    """Merge one word of up to ``SMALL`` bytes by looking for the best pair again and again.

    Every place keeps its pair's rank and itself in one number, so that the best pair is a minimum,
    which the processor finds for sixteen places at a time.

    Args:
        data: the bytes of the text.
        start: where the word begins.
        end: where it ends.
        merging: see `Merging`.
        ids: the tokens are written here ...
        first: ... from here on.
        places: int32, of shape ``PLACES``: pairs, tokens, the places after and before each.

    Returns:
        The number of tokens.
    """
    best_of, token, after, before = places[0], places[1], places[2], places[3]
    pairs = merging.pairs
    n = place_tokens(data, start, end, merging, places)
    padded = (n + 15) & ~15
    for i in range(max(n - 1, 0), padded):
        put(best_of, i, NEVER)
    count = n
    while True:
        best = NEVER
        for i in range(padded):
            best = min(best, at(best_of, i))
        rank = best >> PLACE_BITS
        if rank == LAST:
            break
        i = np.intp(best & _PLACE)
        right = np.intp(at(after, i))
        beyond = np.intp(at(after, right))
        merged = result_of(merging.results, rank)
        left = np.intp(at(before, i))
        # Both are wanted soon: they travel near together.
        prefetch_pair(pairs, merged, at(token, min(beyond, n - 1)))
        prefetch_pair(pairs, at(token, max(left, 0)), merged)
        put(token, i, merged)
        put(after, i, np.int32(beyond))
        put(best_of, right, NEVER)
        count -= 1
        if beyond < n:
            put(before, beyond, np.int32(i))
            rank = find_pair(pairs, merged, at(token, beyond))
            put(best_of, i, min(rank, LAST) << PLACE_BITS | np.int32(i))
        else:
            put(best_of, i, NEVER)
        if left >= 0:
            rank = find_pair(pairs, at(token, left), merged)
            put(best_of, left, min(rank, LAST) << PLACE_BITS | np.int32(left))
    i = np.intp(0)
    for k in range(count):
        put(ids, first + k, at(token, i))
        i = np.intp(at(after, i))
    return count


@inlined_kernel
def place_tokens(data: Any, start: int, end: int, merging: Any, places: Any) -> int:
    """Put a word's bytes into their places, or tokens of its characters where that is the same.

    A byte that has no token is left out.

    Args:
        data: see `merge_small`, as for the others.
        start: where the word begins.
        end: where it ends.
        merging: see `Merging`.
        places: where they are put, see `merge_small`.

    Returns:
        The number of places.
    """
    best_of, token, after, before = places[0], places[1], places[2], places[3]
    byte_ids, byte_pairs = merging.byte_ids, merging.byte_pairs
    characters, pairs = merging.characters, merging.pairs
    n = 0
    i = np.intp(start)
    needed = KNOWN
    last_byte = np.intp(-1)  # the byte in the last place, if a byte stands there
    while i < end:
        byte = np.intp(at(data, i))
        one = at(byte_ids, byte)
        second = np.int32(-1)
        i += 1
        if byte < 0x80:
            needed = KNOWN | ANYWHERE if at(characters, byte) & JOINS else KNOWN
        elif byte >= 0xC0 and byte < 0xF0:
            entry = at(characters, code_point(data, i - 1))
            if entry & needed == needed:
                one = np.int32(entry & TOKEN)
                second = np.int32((entry >> TOKEN_BITS) & TOKEN) - np.int32(1)
                i += 1 if byte < 0xE0 else 2
                byte = np.intp(-1)
            needed = KNOWN | ANYWHERE if entry & JOINS else KNOWN
        if byte >= 0xF0 or one < 0:
            needed = KNOWN | ANYWHERE
            if one < 0:
                continue
        if n > 0:
            if last_byte >= 0 and byte >= 0:
                rank = at(byte_pairs, last_byte << 8 | byte)
            else:
                rank = find_pair(pairs, at(token, n - 1), one)
            put(best_of, n - 1, min(rank, LAST) << PLACE_BITS | np.int32(n - 1))
        put(token, n, one)
        n += 1
        last_byte = byte
        if second >= 0:
            rank = find_pair(pairs, one, second)
            put(best_of, n - 1, min(rank, LAST) << PLACE_BITS | np.int32(n - 1))
            put(token, n, second)
            n += 1
    for k in range(n):
        put(after, k, np.int32(k + 1))
        put(before, k, np.int32(k - 1))
    return n


@kernel
def merge_large(
    data: Any,
    start: int,
    end: int,
    merging: Any,
    ids: Any,
    first: int,
) -> np.intp:
    """`merge_small` in time n log n: a linked list of tokens, and a heap of the pairs in it.

    A pair in the heap may have been changed by a merge beside it: then its rank is another.
    """
    pairs, results = merging.pairs, merging.results
    tokens = np.empty(end - start, np.int32)
    n = 0
    for i in range(start, end):
        tokens[n] = merging.byte_ids[data[i]]
        n += 1 if tokens[n] >= 0 else 0
    before = np.empty(n, np.int32)
    after = np.empty(n, np.int32)
    rank_at = np.empty(n, np.int32)
    heap = np.empty(2 * n + 2, np.int64)  # rank and place in one number: lowest rank, then leftmost
    size = 0
    for i in range(n):
        before[i] = i - 1
        after[i] = i + 1
    for i in range(n):
        rank_at[i] = find_pair(pairs, tokens[i], tokens[i + 1]) if i + 1 < n else NEVER
        if rank_at[i] != NEVER:
            size = _push(heap, size, np.int64(rank_at[i]) << 32 | i)
    while size > 0:
        best, i = heap[0] >> 32, heap[0] & 0xFFFFFFFF
        size = _pop(heap, size)
        if tokens[i] < 0 or rank_at[i] != best:
            continue
        right = after[i]
        beyond = after[right]
        tokens[i] = result_of(results, best)
        tokens[right] = -1
        after[i] = beyond
        if beyond < n:
            before[beyond] = i
        if size + 2 > heap.size:  # a merge takes one pair out and puts up to two in
            heap = np.concatenate((heap, np.empty_like(heap)))
        rank_at[i] = find_pair(pairs, tokens[i], tokens[beyond]) if beyond < n else NEVER
        if rank_at[i] != NEVER:
            size = _push(heap, size, np.int64(rank_at[i]) << 32 | i)
        left = before[i]
        if left >= 0:
            rank_at[left] = find_pair(pairs, tokens[left], tokens[i])
            if rank_at[left] != NEVER:
                size = _push(heap, size, np.int64(rank_at[left]) << 32 | left)
    n_ids = 0
    for i in range(n):
        if tokens[i] >= 0:
            ids[first + n_ids] = tokens[i]
            n_ids += 1
    return n_ids


@lean_kernel
def _push(heap: Any, size: int, value: int) -> int:
    """Put a number into a heap whose smallest is on top; returns its new size."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] <= value:
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = value
    return size + 1


@lean_kernel
def _pop(heap: Any, size: int) -> int:
    """Take the smallest number out of a heap; returns its new size."""
    size -= 1
    value = heap[size]
    i = 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if value <= heap[child]:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = value
    return size
