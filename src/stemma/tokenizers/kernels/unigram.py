"""The likeliest segmentation of a text: the fast form of `UnigramModel.best_path`.

Where no piece reaches over the beginning of a word, the best segmentation of a text is that of its
words, and words come again: those of up to 15 bytes are kept. One thing ties a word to its text:
sums are rounded to single precision, as ``sentencepiece`` does it, and the sum S of what comes
before a word decides how coarsely. If the best segmentation of a word leads the second best by more
than all rounding errors can amount to,

    lead > (n + 2) 2^-23 (|S| + n max |score|)     for n characters,

then it is the best from S too. So each word is kept with the largest |S| for which that holds, and
for which no sum within the word passes 100,000; beyond that it is cut anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN
from stemma.tokenizers.kernels.memory import at, put
from stemma.tokenizers.kernels.scan import character_size
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

LARGEST_SUM = np.float32(100_000.0)
"""See `unigram.model.LARGEST_SUM`."""

_SINGLE = 2.0**23
_SUM_BITS = 24
_OWN = (1 << _SUM_BITS) - 1


@kernel
def encode_texts(
    data: Any, limits: Any, rules: Any, vocabulary: Any, totals: Any, table: Any
) -> Any:
    """Ids of several texts, one after another, and where those of each text end.

    Args:
        data: the texts, UTF-8, and 8 bytes more.
        limits: where each begins, and the last ends.
        rules: see `normalize`.
        vocabulary: ten things. A `double_array` of the pieces; the id of the piece that ends at
            each cell; its score, float32. The score of each id, float32. The id of an unknown
            character, and its score, float32; the id of each byte (see `emit_unknown`). How a text
            falls into words (`spm_words`). The largest score, without its sign. And which
            characters are neighbours in a piece (`are_neighbours`).
        totals: for each text the sum of what comes before, float32; the sum with it is written.
        table: words seen before; what is known is the largest sum before it, and its own sum.
    """
    words, neighbours, escape = vocabulary[7], vocabulary[9], rules[4] & ESCAPE != 0
    ends = np.empty(limits.size - 1, np.int64)
    ids = np.empty(data.size // 2 + ROOM, np.int32)
    out = np.empty(data.size + data.size // 4 + 2 * ROOM, np.uint8)
    leaders = np.empty((2, LONGEST + 1), np.float64)
    path = np.empty((3, ROOM), np.int32)
    best = np.empty(ROOM, np.float32)
    n_ids = np.intp(0)
    for text in range(limits.size - 1):
        out, n = normalize(data, limits[text], limits[text + 1], rules, out)
        i = np.intp(0)
        state = totals[text], n_ids, _bound(totals[text]), False
        while i < n:
            room = leaders, path, best
            i, n_ids, state = _encode_words(
                out, i, n, vocabulary, escape, table, room, ids, n_ids, state
            )
            if i < n:
                size = word_end(out, i, n, words, neighbours) - i
                if size >= best.size:
                    path = np.empty((3, 2 * size), np.int32)
                    best = np.empty(2 * size, np.float32)
                ids = larger(ids, n_ids, 4 * size + MOST_TOKENS)
        totals[text] = _sum(state[0], vocabulary[3], ids, state[1], n_ids)
        ends[text] = n_ids
    return beginning(ids, n_ids), ends


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
    state: Any,
) -> tuple[int, int, Any]:
    """Ids of the words from ``i`` on, as far as there is room for them.

    The state has: the sum of all tokens before ``ids[summed]``, and ``summed``; an upper bound for
    the sum of all tokens, without its sign; whether the last token is unknown.

    Returns:
        Where the next word begins, the number of ids, and the state.
    """
    scores, words, neighbours = vocabulary[3], vocabulary[7], vocabulary[9]
    leaders, path, best = room
    total, summed, bound, was_unknown = state
    while i < n:
        end = word_end(out, i, n, words, neighbours)
        size = end - i
        known = np.intp(-1)
        if n_ids + 4 * size + MOST_TOKENS > ids.size or size >= best.size:
            break
        if size <= LONGEST:
            first, second = word_key(out, i, size)
            place = find_entry(table, first, second)
            if place < 0:
                known, n_tokens = _best_word(out, i, end, vocabulary, path, leaders)
                add_entry(table, first, second, known, path[0], 0, n_tokens)
                place = find_entry(table, first, second)
            known = entry_known(table, place)
            safe = known >> _SUM_BITS
            if bound >= safe > 0:
                total = _sum(total, scores, ids, summed, n_ids)
                summed = n_ids
                bound = _bound(total)
            if bound < safe:
                n_ids = copy_tokens(table, place, ids, n_ids)
                bound += known & _OWN
                was_unknown = False
                i = end
                continue
        total = _sum(total, scores, ids, summed, n_ids)
        if size == character_size(at(out, i)) and known == 0:
            n_tokens, total = _unknown_path(total, size, vocabulary, path)
        else:
            n_tokens, total = best_path(out, i, end, vocabulary, total, best, path)
        n_ids, was_unknown = _emit(
            out, i, n_tokens, path, vocabulary, escape, ids, n_ids, was_unknown
        )
        summed = n_ids
        bound = _bound(total)
        i = end
    return i, n_ids, (total, summed, bound, was_unknown)


@lean_kernel
def _emit(
    out: Any,
    start: int,
    n_tokens: int,
    path: Any,
    vocabulary: Any,
    escape: bool,
    ids: Any,
    n_ids: int,
    was_unknown: bool,
) -> tuple[int, bool]:
    """Write the ids of a path; an unknown one after another is the same without byte fallback."""
    unknown, byte_ids = vocabulary[4], vocabulary[6]
    for k in range(n_tokens - 1, -1, -1):
        stop = path[2, k]
        token = path[1, stop]
        if token >= 0:
            put(ids, n_ids, token)
            n_ids += 1
        elif byte_ids.size > 1 or not was_unknown:
            begin = start + path[0, stop]
            size = start + stop - begin
            n_ids = emit_unknown(out, begin, size, byte_ids, unknown, escape, ids, n_ids)
        was_unknown = token < 0
    return n_ids, was_unknown


@lean_kernel
def _sum(total: float, scores: Any, ids: Any, start: int, end: int) -> float:
    """``total`` and the scores of ``ids[start:end]``, each sum rounded."""
    for k in range(start, end):
        total += at(scores, at(ids, k))
    return total


@lean_kernel
def _bound(total: float) -> int:
    return np.intp(min(abs(total), 2 * LARGEST_SUM)) + 1


@lean_kernel
def best_path(
    data: Any, start: int, end: int, vocabulary: Any, total: float, best: Any, path: Any
) -> tuple[int, float]:
    """The best segmentation of ``data[start:end]`` after pieces that have summed up to ``total``.

    Args:
        data: the normalised text.
        start: where the stretch begins.
        end: where it ends.
        vocabulary: see `encode_texts`.
        total: the sum that comes before, float32.
        best: room for one number more than the stretch has bytes, float32.
        path: three rows of numbers, each with one place more than the stretch has bytes. For every
            end of a token in the stretch its start (row 0) and its id, -1 if it is an unknown
            character (row 1); and the ends of the tokens, the last token's first (row 2).

    Returns:
        The number of tokens, and the new sum.
    """
    cells, cell_ids, cell_scores = vocabulary[0], vocabulary[1], vocabulary[2]
    unknown_score = vocabulary[5]
    starts, tokens = path[0], path[1]
    size = end - start
    for i in range(size + 1):
        put(best, i, np.float32(-np.inf))
    best[0] = total
    furthest = np.intp(0)
    i = np.intp(0)
    while i < size:
        here = at(best, i)
        if abs(here) > LARGEST_SUM:
            for j in range(i, furthest + 1):
                best[j] -= here
            here = np.float32(0.0)
        character = character_size(at(data, start + i))
        single = False
        cell = np.intp(0)
        j = i
        while j < size:
            byte = np.intp(at(data, start + j))
            cell = np.intp(at(cells, cell) >> BASE_SHIFT) ^ byte
            unit = at(cells, cell)
            if unit & 0x1FF != byte | TAKEN:
                break
            j += 1
            if unit & ENDS:
                single = single or j - i == character
                score = here + at(cell_scores, cell)
                if score > at(best, j):
                    put(best, j, score)
                    put(starts, j, i)
                    put(tokens, j, at(cell_ids, cell))
                    furthest = max(furthest, j)
        j = i + character
        if not single and here + unknown_score > at(best, j):
            put(best, j, here + unknown_score)
            put(starts, j, i)
            put(tokens, j, -1)
        furthest = max(furthest, j)
        i = j
    return _trace(path, size), best[size]


@inlined_kernel
def _unknown_path(total: float, size: int, vocabulary: Any, path: Any) -> tuple[int, float]:
    """`best_path` of one unknown character."""
    path[0, size] = 0
    path[1, size] = -1
    path[2, 0] = size
    before = np.float32(0.0) if abs(total) > LARGEST_SUM else total
    return 1, before + vocabulary[5]


@lean_kernel
def _trace(path: Any, size: int) -> int:
    """Fill row 2 of a path; the number of tokens."""
    n = 0
    stop = size
    while stop > 0:
        path[2, n] = stop
        n += 1
        stop = path[0, stop]
    return n


@inlined_kernel
def _compete(
    best: Any, second: Any, starts: Any, tokens: Any, i: int, j: int, score: float, token: int
) -> None:
    """Lengthen the best and the second best segmentation up to ``i`` by a token up to ``j``."""
    total = at(best, i) + score
    if total > at(best, j):
        put(second, j, max(at(best, j), at(second, i) + score))
        put(best, j, total)
        put(starts, j, i)
        put(tokens, j, token)
    elif total > at(second, j):
        put(second, j, total)


@lean_kernel
def _best_word(
    data: Any, start: int, end: int, vocabulary: Any, path: Any, leaders: Any
) -> tuple[int, int]:
    """The best segmentation of a word, as an entry of the table of words.

    The tokens are written to the beginning of row 0 of ``path``. There are none, and they are never
    safe, if one is unknown or they are too many.

    Returns:
        The sum before it below which this segmentation is certain and its own sum, without their
        signs, in one number; and the number of tokens.
    """
    cells, cell_ids, cell_scores = vocabulary[0], vocabulary[1], vocabulary[2]
    best, second = leaders[0], leaders[1]
    starts, tokens = path[0], path[1]
    size = end - start
    for j in range(size + 1):
        put(best, j, -np.inf)
        put(second, j, -np.inf)
    put(best, 0, 0.0)
    characters = 0
    i = np.intp(0)
    while i < size:
        character = character_size(at(data, start + i))
        single = False
        cell = np.intp(0)
        j = i
        while j < size:
            byte = np.intp(at(data, start + j))
            cell = np.intp(at(cells, cell) >> BASE_SHIFT) ^ byte
            unit = at(cells, cell)
            if unit & 0x1FF != byte | TAKEN:
                break
            j += 1
            if unit & ENDS:
                single = single or j - i == character
                score = np.float64(at(cell_scores, cell))
                _compete(best, second, starts, tokens, i, j, score, at(cell_ids, cell))
        if not single:
            score = np.float64(vocabulary[5])
            _compete(best, second, starts, tokens, i, i + character, score, np.int32(-1))
        characters += 1
        i += character
    n = _trace(path, size)
    for k in range(n):
        if n > MOST_TOKENS or path[1, path[2, k]] < 0:
            return 0, 0
    for k in range(n):
        path[0, k] = path[1, path[2, n - 1 - k]]
    own = np.intp(min(abs(leaders[0, size]), np.float64(LARGEST_SUM))) + 2
    lead = leaders[0, size] - leaders[1, size]
    if not lead > 0.0:  # or no number
        return own, n
    limit = min(lead * _SINGLE / (characters + 2), np.float64(LARGEST_SUM))
    safe = limit - characters * vocabulary[8]
    return np.intp(max(safe, 0.0)) << _SUM_BITS | own, n
