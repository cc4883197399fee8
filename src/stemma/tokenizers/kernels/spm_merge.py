"""Merging the parts of a text by SentencePiece's rule: the fast form of `sentencepiece.bpe.merge`.

The parts are numbers: pieces, and behind them the characters that occur in pieces but are none
themselves. A table says which two make which piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import lean_kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN, find
from stemma.tokenizers.kernels.memory import at
from stemma.tokenizers.kernels.scan import character_size

NO_TOKEN, UNUSED = -1, -2
"""What stands for a part that is no piece, and for an unused piece."""

NO_PART = -1
FIXED = -2
"""A user-defined token is the part ``FIXED - id``."""

LISTS = 5
"""Rows of numbers that `merge` needs: the parts, where they begin, and three more."""

SMALL = 32
"""Up to so many parts the best pair is looked for among all; a heap finds it among more."""

_GONE = -(1 << 31)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@lean_kernel
def index_pairs(data: Any, starts: Any, cells: Any, ends: Any, pairs: Any) -> int:
    """Fill a hash table with all pairs of parts that make a piece.

    Args:
        data: all pieces, UTF-8, one after another.
        starts: where each begins; one more for the end.
        cells: a `double_array` of the parts.
        ends: the number of the part that ends at each cell; the pieces are the first parts.
        pairs: uint64, zeros; a power of two times two: the pair and one more than what it makes.

    Returns:
        The number of pairs; -1 if the table is too small.
    """
    n = 0
    for k in range(starts.size - 1):
        cell = np.intp(0)
        i = np.intp(starts[k])
        while True:
            for _ in range(character_size(data[i])):
                cell = np.intp(cells[cell] >> BASE_SHIFT) ^ np.intp(data[i])
                i += 1
            if i >= starts[k + 1]:
                break
            right = find(cells, ends, data, i, starts[k + 1])
            if cells[cell] & ENDS and right >= 0:
                n += 1
                if 4 * n > pairs.size:
                    return -1
                _add_pair(pairs, np.intp(ends[cell]), right, k)
    return n


@lean_kernel
def _slot(pairs: Any, key: int) -> int:
    return np.intp((key * _MIX) >> _32 & np.uint64(pairs.size // 2 - 1))


@lean_kernel
def _add_pair(pairs: Any, left: int, right: int, made: int) -> None:
    key = np.uint64(left) << _32 | np.uint64(right)
    slot = _slot(pairs, key)
    while pairs[2 * slot + 1] != 0:
        slot = (slot + 1) & (pairs.size // 2 - 1)
    pairs[2 * slot] = key
    pairs[2 * slot + 1] = np.uint64(made + 1)


@lean_kernel
def find_pair(pairs: Any, left: int, right: int) -> int:
    """The piece that two parts make; -1 if they make none."""
    if left < 0 or right < 0:
        return -1
    key = np.uint64(left) << _32 | np.uint64(right)
    slot = _slot(pairs, key)
    while True:
        made = at(pairs, 2 * slot + 1)
        if made == 0 or at(pairs, 2 * slot) == key:
            return np.intp(made) - 1
        slot = (slot + 1) & (pairs.size // 2 - 1)


@lean_kernel
def split(data: Any, start: int, end: int, vocabulary: Any, lists: Any) -> int:
    """Cut a stretch of text into user-defined tokens and characters; the number of these.

    Args:
        data: the normalised text.
        start: where the stretch begins.
        end: where it ends.
        vocabulary: see `spm_bpe.encode_texts`.
        lists: the parts are written to row 0, and where they begin to row 1.
    """
    fixed, fixed_ids, cells, part_of = vocabulary[0], vocabulary[1], vocabulary[2], vocabulary[3]
    n = 0
    i = np.intp(start)
    while i < end:
        found, stop = np.intp(-1), i
        cell = np.intp(0)
        for j in range(i, end):
            byte = np.intp(at(data, j))
            cell = np.intp(at(fixed, cell) >> BASE_SHIFT) ^ byte
            if at(fixed, cell) & 0x1FF != byte | TAKEN:
                break
            if at(fixed, cell) & ENDS:
                found, stop = np.intp(at(fixed_ids, cell)), j + 1
        if found < 0:
            stop = i + character_size(at(data, i))
        lists[0, n] = FIXED - found if found >= 0 else find(cells, part_of, data, i, stop)
        lists[1, n] = i
        n += 1
        i = stop
    lists[1, n] = end
    return n


@lean_kernel
def merge_few(lists: Any, n: int, pairs: Any, ranks: Any) -> int:
    """Merge by looking for the best pair again and again; the number of parts left.

    Args:
        lists: see `split`.
        n: the number of parts.
        pairs: see `index_pairs`.
        ranks: see `spm_bpe.encode_texts`.
    """
    for k in range(n - 1):
        lists[2, k] = find_pair(pairs, lists[0, k], lists[0, k + 1])
    while n > 1:
        place = np.intp(-1)
        for k in range(n - 1):
            made = lists[2, k]
            if made >= 0 and (place < 0 or at(ranks, made) > at(ranks, lists[2, place])):
                place = k
        if place < 0:
            break
        lists[0, place] = lists[2, place]
        n -= 1
        for k in range(place + 1, n):
            lists[0, k] = lists[0, k + 1]
            lists[1, k] = lists[1, k + 1]
            lists[2, k - 1] = lists[2, k]
        lists[1, n] = lists[1, n + 1]
        if place > 0:
            lists[2, place - 1] = find_pair(pairs, lists[0, place - 1], lists[0, place])
        if place < n - 1:
            lists[2, place] = find_pair(pairs, lists[0, place], lists[0, place + 1])
    return n


@lean_kernel
def merge_many(lists: Any, n: int, vocabulary: Any, heap: Any, halves: Any) -> int:
    """Merge with a linked list and a heap; the number of parts left.

    A pair stands in the heap as its rank, turned so that the highest is the lowest number, and its
    place. One that has been changed by a merge beside it no longer has that rank when it comes up;
    if it has, it is a pair of that rank at that place, and its turn has come.

    Args:
        lists: see `split`.
        n: the number of parts.
        vocabulary: see `spm_bpe.encode_texts`.
        heap: uint64, room for three numbers a part.
        halves: the two parts that made each unused piece last are written to its two rows.
    """
    ranks = vocabulary[5]
    parts, begins, made, before, after = lists[0], lists[1], lists[2], lists[3], lists[4]
    for k in range(n):
        before[k] = k - 1
        after[k] = k + 1
    size = np.intp(0)
    for k in range(n - 1):
        size = _consider(k, lists, n, vocabulary, heap, size, halves)
    while size:
        key = heap[0]
        size = _pop(heap, size)
        left = np.intp(key & _LOW)
        if parts[left] == _GONE or made[left] < 0 or _turned(ranks, made[left]) != key >> _32:
            continue
        right = np.intp(after[left])
        parts[left] = made[left]
        parts[right] = _GONE
        after[left] = after[right]
        if after[left] < n:
            before[after[left]] = left
        if before[left] >= 0:
            previous = np.intp(before[left])
            size = _consider(previous, lists, n, vocabulary, heap, size, halves)
        size = _consider(left, lists, n, vocabulary, heap, size, halves)
    kept = 0
    end = begins[n]
    for k in range(n):
        if parts[k] != _GONE:
            parts[kept] = parts[k]
            begins[kept] = begins[k]
            kept += 1
    begins[kept] = end
    return kept


@lean_kernel
def _consider(
    left: int, lists: Any, n: int, vocabulary: Any, heap: Any, size: int, halves: Any
) -> int:
    """Put the pair at ``left`` into the heap if it makes a piece; the size of the heap."""
    pairs, ranks, tokens = vocabulary[4], vocabulary[5], vocabulary[6]
    parts, made, after = lists[0], lists[2], lists[4]
    right = np.intp(after[left])
    piece = find_pair(pairs, parts[left], parts[right]) if right < n else -1
    made[left] = piece
    if piece < 0:
        return size
    if tokens[piece] == UNUSED:
        halves[0, piece], halves[1, piece] = parts[left], parts[right]
    return _push(heap, size, _turned(ranks, piece) << _32 | np.uint64(left))


@lean_kernel
def _turned(ranks: Any, piece: int) -> int:
    return np.uint64(np.intp(0x7FFFFFFF) - np.intp(ranks[piece]))


@lean_kernel
def _push(heap: Any, size: int, key: int) -> int:
    place = size
    while place:
        above = (place - 1) >> 1
        if heap[above] <= key:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = key
    return size + 1


@lean_kernel
def _pop(heap: Any, size: int) -> int:
    size -= 1
    key = heap[size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= key:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = key
    return size
