"""SentencePiece's BPE: the fast form of `sentencepiece_bpe.merge`.

The parts of a text are numbers here: pieces, and behind them the characters that occur in pieces
but are none themselves. A table says which two parts make which piece. Where no piece reaches over
the beginning of a word, words are merged one by one, and kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN, find
from stemma.tokenizers.kernels.memory import at, put
from stemma.tokenizers.kernels.spm_normalize import ESCAPE, normalize
from stemma.tokenizers.kernels.spm_words import (
    LONGEST,
    MOST_TOKENS,
    ROOM,
    add_entry,
    beginning,
    character_size,
    copy_tokens,
    emit_unknown,
    entry_known,
    find_entry,
    larger,
    word_end,
    word_key,
)

_MIX = np.uint64(0x9E3779B97F4A7C15)
_32 = np.uint64(32)
_ONE = np.uint64(1)
_LOW = np.uint64(0xFFFFFFFF)

NO_TOKEN, UNUSED = -1, -2
_NO_PART = -1
_FIXED = -2
"""A user-defined token is the part ``_FIXED - id``."""

_GONE = -(1 << 31)
_LISTS = 5
_SMALL = 32
"""Up to so many parts the best pair is looked for among all; a heap finds it among more."""


@kernel
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


@kernel
def _slot(pairs: Any, key: int) -> int:
    return np.intp((key * _MIX) >> _32 & np.uint64(pairs.size // 2 - 1))


@kernel
def _add_pair(pairs: Any, left: int, right: int, made: int) -> None:
    key = np.uint64(left) << _32 | np.uint64(right)
    slot = _slot(pairs, key)
    while pairs[2 * slot + 1] != 0:
        slot = (slot + 1) & (pairs.size // 2 - 1)
    pairs[2 * slot] = key
    pairs[2 * slot + 1] = np.uint64(made + 1)


@kernel
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


@kernel
def encode_texts(
    data: Any,
    limits: Any,
    known: Any,
    units: Any,
    strings: Any,
    whole: Any,
    flags: int,
    fixed: Any,
    fixed_ids: Any,
    cells: Any,
    part_of: Any,
    pairs: Any,
    ranks: Any,
    tokens: Any,
    sizes: Any,
    unknown: int,
    byte_ids: Any,
    words: int,
    table: Any,
) -> tuple[Any, Any]:
    """Ids of several texts, one after another, and where those of each text end.

    Args:
        data: the texts, UTF-8, and 8 bytes more.
        limits: where each begins, and the last ends.
        known: see `normalize`, like the next four.
        units: see there.
        strings: see there.
        whole: see there.
        flags: see there.
        fixed: a `double_array` of the user-defined tokens as they are in a normalised text.
        fixed_ids: the id of the one that ends at each cell.
        cells: a `double_array` of the parts.
        part_of: the number of the part that ends at each cell.
        pairs: see `index_pairs`.
        ranks: a number for each part: the highest is made first.
        tokens: the id of each part, ``NO_TOKEN`` for a character that is no piece, or ``UNUSED``.
        sizes: the number of bytes of each part.
        unknown: the id of an unknown character.
        byte_ids: see `emit_unknown`.
        words: how a text falls into words (`spm_words`); not at all if there are unused pieces.
        table: words seen before.
    """
    ends = np.empty(limits.size - 1, np.int64)
    ids = np.empty(data.size // 2 + ROOM, np.int32)
    out = np.empty(data.size + data.size // 4 + 2 * ROOM, np.uint8)
    longest = ROOM
    lists = np.empty((_LISTS, longest + 1), np.int32)
    heap = np.empty(3 * longest, np.uint64)
    n_halves = tokens.size if _any_unused(tokens) else 1
    halves = np.empty((2, n_halves), np.int32)
    escape = flags & ESCAPE != 0
    n_ids = np.intp(0)
    for text in range(limits.size - 1):
        out, n = normalize(
            data, limits[text], limits[text + 1], known, units, strings, whole, flags, out
        )
        for part in range(n_halves):
            halves[0, part] = NO_TOKEN
        start = np.intp(0)
        was_unknown = False
        while start < n:
            start, n_ids, was_unknown = _encode_words(
                out,
                start,
                n,
                fixed,
                fixed_ids,
                cells,
                part_of,
                pairs,
                ranks,
                tokens,
                sizes,
                unknown,
                byte_ids,
                words,
                escape,
                table,
                ids,
                n_ids,
                was_unknown,
                lists,
                heap,
                halves,
            )
            if start < n:
                size = word_end(out, start, n, words) - start
                if size > longest:
                    longest = 2 * size
                    lists = np.empty((_LISTS, longest + 1), np.int32)
                    heap = np.empty(3 * longest, np.uint64)
                ids = larger(ids, n_ids, 4 * size + MOST_TOKENS)
        ends[text] = n_ids
    return beginning(ids, n_ids), ends


@kernel
def _any_unused(tokens: Any) -> bool:
    for token in tokens:  # noqa: SIM110
        if token == UNUSED:
            return True
    return False


@kernel
def _encode_words(
    out: Any,
    start: int,
    n: int,
    fixed: Any,
    fixed_ids: Any,
    cells: Any,
    part_of: Any,
    pairs: Any,
    ranks: Any,
    tokens: Any,
    sizes: Any,
    unknown: int,
    byte_ids: Any,
    words: int,
    escape: bool,
    table: Any,
    ids: Any,
    n_ids: int,
    was_unknown: bool,
    lists: Any,
    heap: Any,
    halves: Any,
) -> tuple[int, int, bool]:
    """Ids of the words from ``start`` on, as far as there is room for them.

    Returns:
        Where the next word begins, the number of ids, and whether the last is unknown.
    """
    parts, begins = lists[0], lists[1]
    i = np.intp(start)
    while i < n:
        end = word_end(out, i, n, words)
        size = end - i
        if n_ids + 4 * size + MOST_TOKENS > ids.size or size + 1 > parts.size:
            break
        place = np.intp(-1)
        if size <= LONGEST:
            first, second = word_key(out, i, size)
            place = find_entry(table, first, second)
            if place >= 0 and entry_known(table, place):
                n_ids = copy_tokens(table, place, ids, n_ids)
                was_unknown = False
                i = end
                continue
        n_parts = _split(out, i, end, fixed, fixed_ids, cells, part_of, parts, begins)
        if n_parts <= _SMALL and halves.shape[1] == 1:
            n_parts = _merge_few(parts, begins, n_parts, pairs, ranks, lists[2])
        else:
            n_parts = _merge_many(lists, n_parts, pairs, ranks, tokens, heap, halves)
        before = n_ids
        spelled = True
        for k in range(n_parts):
            begin, stop = np.intp(at(begins, k)), np.intp(at(begins, k + 1))
            part = np.intp(at(parts, k))
            token = _token(part, tokens)
            spelled = spelled and token >= 0
            if token >= 0:
                put(ids, n_ids, token)
                n_ids += 1
            elif token == UNUSED:
                n_ids, was_unknown = _take_apart(
                    out,
                    begin,
                    part,
                    tokens,
                    sizes,
                    halves,
                    byte_ids,
                    unknown,
                    escape,
                    ids,
                    n_ids,
                    was_unknown,
                    lists[2],
                )
                continue
            elif byte_ids.size > 1 or not was_unknown:
                n_ids = emit_unknown(
                    out, begin, stop - begin, byte_ids, unknown, escape, ids, n_ids
                )
            was_unknown = token < 0
        if size <= LONGEST and place < 0:
            n_tokens = n_ids - before
            keep = spelled and n_tokens <= MOST_TOKENS
            add_entry(table, first, second, keep, ids, before, n_tokens if keep else 0)
        i = end
    return i, n_ids, was_unknown


@kernel
def _token(part: int, tokens: Any) -> int:
    """The token of a part: a user-defined one is in the part itself."""
    if part <= _FIXED:
        return _FIXED - part
    return NO_TOKEN if part == _NO_PART else np.intp(at(tokens, part))


@kernel
def _split(
    data: Any,
    start: int,
    end: int,
    fixed: Any,
    fixed_ids: Any,
    cells: Any,
    part_of: Any,
    parts: Any,
    begins: Any,
) -> int:
    """Cut a stretch of text into user-defined tokens and characters; the number of these."""
    n = 0
    i = np.intp(start)
    while i < end:
        put(begins, n, i)
        found = np.intp(-1)
        stop = i
        cell = np.intp(0)
        for j in range(i, end):
            byte = np.intp(at(data, j))
            cell = np.intp(at(fixed, cell) >> BASE_SHIFT) ^ byte
            if at(fixed, cell) & 0x1FF != byte | TAKEN:
                break
            if at(fixed, cell) & ENDS:
                found = np.intp(at(fixed_ids, cell))
                stop = j + 1
        if found >= 0:
            put(parts, n, _FIXED - found)
        else:
            stop = i + character_size(at(data, i))
            put(parts, n, find(cells, part_of, data, i, stop))
        n += 1
        i = stop
    put(begins, n, end)
    return n


@kernel
def _merge_few(parts: Any, begins: Any, n: int, pairs: Any, ranks: Any, made: Any) -> int:
    """Merge by looking for the best pair again and again; the number of parts left."""
    for k in range(n - 1):
        put(made, k, find_pair(pairs, at(parts, k), at(parts, k + 1)))
    while n > 1:
        place = np.intp(-1)
        for k in range(n - 1):
            if at(made, k) >= 0 and (
                place < 0 or at(ranks, at(made, k)) > at(ranks, at(made, place))
            ):
                place = k
        if place < 0:
            break
        put(parts, place, at(made, place))
        n -= 1
        for k in range(place + 1, n):
            put(parts, k, at(parts, k + 1))
            put(begins, k, at(begins, k + 1))
            put(made, k - 1, at(made, k))
        put(begins, n, at(begins, n + 1))
        if place > 0:
            put(made, place - 1, find_pair(pairs, at(parts, place - 1), at(parts, place)))
        if place < n - 1:
            put(made, place, find_pair(pairs, at(parts, place), at(parts, place + 1)))
    return n


@kernel
def _merge_many(
    lists: Any, n: int, pairs: Any, ranks: Any, tokens: Any, heap: Any, halves: Any
) -> int:
    """Merge with a linked list and a heap; the number of parts left.

    A pair stands in the heap as its rank, turned so that the highest is the lowest number, and its
    place. One that has been changed by a merge beside it no longer has that rank when it comes up;
    if it has, it is a pair of that rank at that place, and its turn has come.
    """
    parts, begins, made, before, after = lists[0], lists[1], lists[2], lists[3], lists[4]
    for k in range(n):
        before[k] = k - 1
        after[k] = k + 1
    size = np.intp(0)
    for k in range(n - 1):
        size = _consider(k, lists, n, pairs, ranks, tokens, heap, size, halves)
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
            size = _consider(
                np.intp(before[left]), lists, n, pairs, ranks, tokens, heap, size, halves
            )
        size = _consider(left, lists, n, pairs, ranks, tokens, heap, size, halves)
    kept = 0
    end = begins[n]
    for k in range(n):
        if parts[k] != _GONE:
            parts[kept] = parts[k]
            begins[kept] = begins[k]
            kept += 1
    begins[kept] = end
    return kept


@kernel
def _consider(
    left: int,
    lists: Any,
    n: int,
    pairs: Any,
    ranks: Any,
    tokens: Any,
    heap: Any,
    size: int,
    halves: Any,
) -> int:
    """Put the pair at ``left`` into the heap if it makes a piece; the size of the heap."""
    parts, made, after = lists[0], lists[2], lists[4]
    right = np.intp(after[left])
    if right == n:
        made[left] = -1
        return size
    piece = find_pair(pairs, parts[left], parts[right])
    made[left] = piece
    if piece < 0:
        return size
    if tokens[piece] == UNUSED:
        halves[0, piece] = parts[left]
        halves[1, piece] = parts[right]
    return _push(heap, size, _turned(ranks, piece) << _32 | np.uint64(left))


@kernel
def _turned(ranks: Any, piece: int) -> int:
    return np.uint64(np.intp(0x7FFFFFFF) - np.intp(ranks[piece]))


@kernel
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


@kernel
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


@kernel
def _take_apart(
    data: Any,
    begin: int,
    part: int,
    tokens: Any,
    sizes: Any,
    halves: Any,
    byte_ids: Any,
    unknown: int,
    escape: bool,
    ids: Any,
    n_ids: int,
    was_unknown: bool,
    waiting: Any,
) -> tuple[int, bool]:
    """Write the tokens of the parts that an unused piece was made of, and so on."""
    waiting[0] = part
    n = 1
    while n:
        n -= 1
        part = np.intp(waiting[n])
        token = np.intp(tokens[part])
        if token == UNUSED and halves[0, part] != NO_TOKEN:
            waiting[n] = halves[1, part]
            waiting[n + 1] = halves[0, part]
            n += 2
        elif token >= 0:
            ids[n_ids] = token
            n_ids += 1
            begin += sizes[part]
            was_unknown = False
        else:
            size = character_size(data[begin])
            if byte_ids.size > 1 or not was_unknown:
                n_ids = emit_unknown(data, begin, size, byte_ids, unknown, escape, ids, n_ids)
            begin += size
            was_unknown = True
    return n_ids, was_unknown
