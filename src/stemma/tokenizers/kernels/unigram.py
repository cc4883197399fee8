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

from stemma.tokenizers.kernels import kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN
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

LARGEST_SUM = np.float32(100_000.0)
"""See `unigram_model.LARGEST_SUM`."""

_SINGLE = 2.0**23
_SUM_BITS = 24


@kernel
def encode_texts(
    data: Any,
    limits: Any,
    known: Any,
    units: Any,
    strings: Any,
    whole: Any,
    flags: int,
    cells: Any,
    cell_ids: Any,
    cell_scores: Any,
    scores: Any,
    unknown: int,
    unknown_score: float,
    byte_ids: Any,
    words: int,
    largest: float,
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
        cells: a `double_array` of the pieces.
        cell_ids: the id of the piece that ends at a cell.
        cell_scores: its score, float32.
        scores: the score of each id, float32.
        unknown: the id of an unknown character.
        unknown_score: its score, float32.
        byte_ids: see `emit_unknown`.
        words: how a text falls into words (`spm_words`).
        largest: the largest score, without its sign.
        table: words seen before; what is known is the largest sum before it, and its own sum.
    """
    ends = np.empty(limits.size - 1, np.int64)
    ids = np.empty(data.size // 2 + ROOM, np.int32)
    out = np.empty(data.size + data.size // 4 + 2 * ROOM, np.uint8)
    longest = ROOM
    leaders = np.empty((2, LONGEST + 1), np.float64)
    path = np.empty((3, ROOM), np.int32)
    best = np.empty(ROOM, np.float32)
    escape = flags & ESCAPE != 0
    n_ids = np.intp(0)
    for text in range(limits.size - 1):
        out, n = normalize(
            data, limits[text], limits[text + 1], known, units, strings, whole, flags, out
        )
        start = np.intp(0)
        state = np.float32(0.0), n_ids, np.intp(0), False
        while start < n:
            start, n_ids, state = _encode_words(
                out,
                start,
                n,
                cells,
                cell_ids,
                cell_scores,
                scores,
                unknown,
                unknown_score,
                byte_ids,
                words,
                largest,
                escape,
                table,
                ids,
                n_ids,
                state,
                leaders,
                path,
                best,
            )
            if start < n:
                size = word_end(out, start, n, words) - start
                if size >= longest:
                    longest = 2 * size
                    path = np.empty((3, longest), np.int32)
                    best = np.empty(longest, np.float32)
                ids = larger(ids, n_ids, 4 * size + MOST_TOKENS)
        ends[text] = n_ids
    return beginning(ids, n_ids), ends


@kernel
def _encode_words(
    out: Any,
    start: int,
    n: int,
    cells: Any,
    cell_ids: Any,
    cell_scores: Any,
    scores: Any,
    unknown: int,
    unknown_score: float,
    byte_ids: Any,
    words: int,
    largest: float,
    escape: bool,
    table: Any,
    ids: Any,
    n_ids: int,
    state: Any,
    leaders: Any,
    path: Any,
    best: Any,
) -> tuple[int, int, Any]:
    """Ids of the words from ``start`` on, as far as there is room for them.

    The state has: the sum of all tokens before ``ids[summed]``, and ``summed``; an upper bound for
    the sum of all tokens, without its sign; whether the last token is unknown.

    Returns:
        Where the next word begins, the number of ids, and the state.
    """
    total, summed, bound, was_unknown = state
    i = np.intp(start)
    while i < n:
        end = word_end(out, i, n, words)
        size = end - i
        if n_ids + 4 * size + MOST_TOKENS > ids.size or size >= best.size:
            break
        if size <= LONGEST:
            first, second = word_key(out, i, size)
            place = find_entry(table, first, second)
            if place < 0:
                n_tokens, safe = _best_word(
                    out, i, end, cells, cell_ids, cell_scores, unknown_score, largest, path, leaders
                )
                own = np.intp(min(abs(leaders[0, size]), LARGEST_SUM)) + 2
                add_entry(table, first, second, safe << _SUM_BITS | own, path[0], 0, n_tokens)
                place = find_entry(table, first, second)
            safe_and_own = entry_known(table, place)
            safe = safe_and_own >> _SUM_BITS
            if bound >= safe > 0:
                total = _sum(total, scores, ids, summed, n_ids)
                summed = n_ids
                bound = _bound(total)
            if bound < safe:
                n_ids = copy_tokens(table, place, ids, n_ids)
                bound += safe_and_own & ((1 << _SUM_BITS) - 1)
                was_unknown = False
                i = end
                continue
        total = _sum(total, scores, ids, summed, n_ids)
        n_tokens, total = best_path(
            out, i, end, cells, cell_ids, cell_scores, unknown_score, total, best, path
        )
        for k in range(n_tokens - 1, -1, -1):
            stop = at(path[2], k)
            token = at(path[1], stop)
            if token >= 0:
                put(ids, n_ids, token)
                n_ids += 1
            elif byte_ids.size > 1 or not was_unknown:
                begin = i + at(path[0], stop)
                n_ids = emit_unknown(
                    out, begin, i + stop - begin, byte_ids, unknown, escape, ids, n_ids
                )
            was_unknown = token < 0
        summed = n_ids
        bound = _bound(total)
        i = end
    return i, n_ids, (total, summed, bound, was_unknown)


@kernel
def _sum(total: float, scores: Any, ids: Any, start: int, end: int) -> float:
    """``total`` and the scores of ``ids[start:end]``, each sum rounded."""
    for k in range(start, end):
        total += at(scores, at(ids, k))
    return total


@kernel
def _bound(total: float) -> int:
    return np.intp(min(abs(total), 2 * LARGEST_SUM)) + 1


@kernel
def best_path(
    data: Any,
    start: int,
    end: int,
    cells: Any,
    cell_ids: Any,
    cell_scores: Any,
    unknown_score: float,
    total: float,
    best: Any,
    path: Any,
) -> tuple[int, float]:
    """The best segmentation of ``data[start:end]`` after pieces that have summed up to ``total``.

    Args:
        data: the normalised text.
        start: where the stretch begins.
        end: where it ends.
        cells: see `encode_texts`, like the next three.
        cell_ids: see there.
        cell_scores: see there.
        unknown_score: see there.
        total: the sum that comes before, float32.
        best: room for one number more than the stretch has bytes, float32.
        path: three rows of numbers, each with one place more than the stretch has bytes. For every
            end of a token in the stretch its start (row 0) and its id, -1 if it is an unknown
            character (row 1); and the ends of the tokens, the last token's first (row 2).

    Returns:
        The number of tokens, and the new sum.
    """
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
                    path[0, j] = i
                    path[1, j] = at(cell_ids, cell)
                    furthest = max(furthest, j)
        if not single:
            j = i + character
            furthest = max(furthest, j)
            score = here + unknown_score
            if score > at(best, j):
                put(best, j, score)
                path[0, j] = i
                path[1, j] = -1
        i += character
    n = 0
    stop = size
    while stop > 0:
        path[2, n] = stop
        n += 1
        stop = path[0, stop]
    return n, best[size]


@kernel
def _best_word(
    data: Any,
    start: int,
    end: int,
    cells: Any,
    cell_ids: Any,
    cell_scores: Any,
    unknown_score: float,
    largest: float,
    path: Any,
    leaders: Any,
) -> tuple[int, int]:
    """The best segmentation of a word, and below which sum before it that is certain.

    The tokens are written to ``path[0]``, the best and the second best sum to the two rows of
    ``leaders``. Nothing is certain, and there are no tokens, if one is unknown or they are many.
    """
    size = end - start
    best, second = leaders[0], leaders[1]
    for i in range(LONGEST + 1):
        best[i] = second[i] = -np.inf
    best[0] = 0.0
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
                if best[i] + score > best[j]:
                    second[j] = max(best[j], second[i] + score)
                    best[j] = best[i] + score
                    path[1, j] = at(cell_ids, cell)
                    path[2, j] = i
                else:
                    second[j] = max(second[j], best[i] + score)
        if not single:
            j = i + character
            score = np.float64(unknown_score)
            if best[i] + score > best[j]:
                second[j] = max(best[j], second[i] + score)
                best[j] = best[i] + score
                path[1, j] = -1
                path[2, j] = i
            else:
                second[j] = max(second[j], best[i] + score)
        characters += 1
        i += character
    n = 0
    stop = size
    while stop > 0:
        if path[1, stop] < 0 or n == MOST_TOKENS:
            return 0, 0
        n += 1
        stop = path[2, stop]
    stop = size
    for k in range(n - 1, -1, -1):
        path[0, k] = path[1, stop]
        stop = path[2, stop]
    within = characters * largest
    lead = best[size] - second[size]
    safe = min(lead * _SINGLE / (characters + 2), np.float64(LARGEST_SUM)) - within
    return n, np.intp(safe) if safe > 0.0 else 0
