"""SentencePiece's BPE: the fast form of `SentencePieceBPE`.

Where no piece reaches over the beginning of a word, words are merged one by one, and kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel, lean_kernel
from stemma.tokenizers.kernels.memory import put
from stemma.tokenizers.kernels.scan import character_size
from stemma.tokenizers.kernels.spm_merge import (
    FIXED,
    LISTS,
    NO_PART,
    NO_TOKEN,
    SMALL,
    UNUSED,
    merge_few,
    merge_many,
    split,
)
from stemma.tokenizers.kernels.spm_normalize import ESCAPE, normalize
from stemma.tokenizers.kernels.spm_words import (
    LONGEST,
    MOST_TOKENS,
    ROOM,
    add_entry,
    beginning,
    copy_tokens,
    emit_unknown,
    entry_known,
    find_entry,
    larger,
    word_end,
    word_key,
)


@kernel
def encode_texts(data: Any, limits: Any, rules: Any, vocabulary: Any, table: Any) -> Any:
    """Ids of several texts, one after another, and where those of each text end.

    Args:
        data: the texts, UTF-8, and 8 bytes more.
        limits: where each begins, and the last ends.
        rules: see `normalize`.
        vocabulary: twelve things. A `double_array` of the user-defined tokens as they are in a
            normalised text, and the id of the one that ends at each cell. One of the parts, and the
            number of the part that ends at each cell. The table of `index_pairs`. A number for each
            part, the highest of which is made first; its token, ``NO_TOKEN`` for a character that
            is no piece, or ``UNUSED``; the number of its bytes. The id of an unknown character, and
            that of each byte (see `emit_unknown`). How a text falls into words (`spm_words`): not
            at all if there are unused pieces. And which characters are neighbours in a piece
            (`are_neighbours`).
        table: words seen before; known is whether all their tokens are.
    """
    tokens, words, neighbours = vocabulary[6], vocabulary[10], vocabulary[11]
    escape = rules[4] & ESCAPE != 0
    ends = np.empty(limits.size - 1, np.int64)
    ids = np.empty(data.size // 2 + ROOM, np.int32)
    out = np.empty(data.size + data.size // 4 + 2 * ROOM, np.uint8)
    lists = np.empty((LISTS, ROOM), np.int32)
    heap = np.empty(3 * ROOM, np.uint64)
    halves = np.empty((2, tokens.size if _any_unused(tokens) else 1), np.int32)
    n_ids = np.intp(0)
    for text in range(limits.size - 1):
        out, n = normalize(data, limits[text], limits[text + 1], rules, out)
        for part in range(halves.shape[1]):
            halves[0, part] = NO_TOKEN
        i = np.intp(0)
        was_unknown = False
        while i < n:
            room = lists, heap, halves
            i, n_ids, was_unknown = _encode_words(
                out, i, n, vocabulary, escape, table, room, ids, n_ids, was_unknown
            )
            if i < n:
                size = word_end(out, i, n, words, neighbours) - i
                if size + 1 > lists.shape[1]:
                    lists = np.empty((LISTS, 2 * size + 1), np.int32)
                    heap = np.empty(6 * size, np.uint64)
                ids = larger(ids, n_ids, 4 * size + MOST_TOKENS)
        ends[text] = n_ids
    return beginning(ids, n_ids), ends


@lean_kernel
def _any_unused(tokens: Any) -> bool:
    for token in tokens:  # noqa: SIM110
        if token == UNUSED:
            return True
    return False


@lean_kernel
def _encode_words(
    out: Any,
    i: int,
    n: int,
    vocabulary: Any,
    escape: bool,
    table: Any,
    room: Any,
    ids: Any,
    n_ids: int,
    was_unknown: bool,
) -> tuple[int, int, bool]:
    """Ids of the words from ``i`` on, as far as there is room for them.

    Returns:
        Where the next word begins, the number of ids, and whether the last is unknown.
    """
    pairs, ranks = vocabulary[4], vocabulary[5]
    words, neighbours = vocabulary[10], vocabulary[11]
    lists, heap, halves = room
    while i < n:
        end = word_end(out, i, n, words, neighbours)
        size = end - i
        if n_ids + 4 * size + MOST_TOKENS > ids.size or size + 1 > lists.shape[1]:
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
        n_parts = split(out, i, end, vocabulary, lists)
        if n_parts <= SMALL and halves.shape[1] == 1:
            n_parts = merge_few(lists, n_parts, pairs, ranks)
        else:
            n_parts = merge_many(lists, n_parts, vocabulary, heap, halves)
        before = n_ids
        n_ids, was_unknown, all_known = _emit(
            out, n_parts, vocabulary, escape, lists, halves, ids, n_ids, was_unknown
        )
        if size <= LONGEST and place < 0:
            keep = all_known and n_ids - before <= MOST_TOKENS
            add_entry(table, first, second, keep, ids, before, n_ids - before if keep else 0)
        i = end
    return i, n_ids, was_unknown


@lean_kernel
def _emit(
    out: Any,
    n_parts: int,
    vocabulary: Any,
    escape: bool,
    lists: Any,
    halves: Any,
    ids: Any,
    n_ids: int,
    was_unknown: bool,
) -> tuple[int, bool, bool]:
    """Write the ids of parts; what is unused is replaced by the two parts that made it, and so on.

    Returns:
        The number of ids, whether the last is unknown, and whether none is.
    """
    tokens, sizes = vocabulary[6], vocabulary[7]
    unknown, byte_ids = vocabulary[8], vocabulary[9]
    all_known = True
    for k in range(n_parts):
        begin = np.intp(lists[1, k])
        lists[2, 0] = lists[0, k]
        waiting = 1
        while waiting:
            waiting -= 1
            part = np.intp(lists[2, waiting])
            token = _token(part, tokens)
            if token == UNUSED and halves[0, part] != NO_TOKEN:
                lists[2, waiting] = halves[1, part]
                lists[2, waiting + 1] = halves[0, part]
                waiting += 2
                continue
            if token >= 0:
                put(ids, n_ids, token)
                n_ids += 1
                begin += sizes[part] if part >= 0 else 0
            else:
                size = character_size(out[begin])
                if byte_ids.size > 1 or not was_unknown:
                    n_ids = emit_unknown(out, begin, size, byte_ids, unknown, escape, ids, n_ids)
                begin += size
                all_known = False
            was_unknown = token < 0
    return n_ids, was_unknown, all_known


@lean_kernel
def _token(part: int, tokens: Any) -> int:
    """The token of a part: a user-defined one is in the part itself."""
    if part <= FIXED:
        return FIXED - part
    return NO_TOKEN if part == NO_PART else np.intp(tokens[part])
