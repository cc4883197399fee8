"""Encoding words by BPE, behind a cache of words."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.characters import (
    ALONE,
    TOKEN,
    TOKEN_BITS,
    entry_of,
    may_cut,
)
from stemma.tokenizers.kernels.memory import at, load_8_bytes, prefetch, put
from stemma.tokenizers.kernels.merging import merge
from stemma.tokenizers.kernels.scan import character_size, code_point
from stemma.tokenizers.kernels.vocabulary import find_whole, spells
from stemma.tokenizers.kernels.word_cache import (
    BLOCK,
    LINE,
    LONGEST_KEPT,
    MOST_TOKENS,
    PART,
    SHORT,
    find_lines,
    line_of,
    recall,
    remember,
    short_key,
)

_CHARACTER = np.uint64(0)
_LONG_PART = np.uint64(1)


class Tokens(NamedTuple):
    """The tokens that a word becomes as it stands, if its bytes spell one.

    Args:
        whole: those that are not in an empty `word_cache`, see `find_whole`.
        least: none of them has fewer bytes.
        spelled: the bytes of all tokens, one after another, uint8.
        offsets: where each token begins in ``spelled``, int64.
    """

    whole: Any
    least: int
    spelled: Any
    offsets: Any


class Scratch(NamedTuple):
    """What one thread writes to besides the ids.

    Args:
        cache: the words met, int32; see `word_cache`.
        lows: ``BLOCK`` numbers of 64 bits: the keys of some words ...
        highs: ... their other halves ...
        lines: ... and their lines, intp.
        part_ends: where some parts of one word end, intp, ``BLOCK`` of them ...
        part_lows: ... their keys ...
        part_highs: ... the other halves ...
        part_lines: ... and their lines.
        places: see `merge_small`.
    """

    cache: Any
    lows: Any
    highs: Any
    lines: Any
    part_ends: Any
    part_lows: Any
    part_highs: Any
    part_lines: Any
    places: Any


@lean_kernel
def encode_words(
    data: Any,
    ends: Any,
    limits: Any,
    merging: Any,
    tokens: Any,
    scratch: Any,
    ids: Any,
    first_id: int,
    n_at_limits: Any,
) -> int:
    """Encode words one after another.

    Args:
        data: UTF-8 bytes, uint8, with at least 16 more behind the text.
        ends: where each word ends, int32.
        limits: where each of several texts ends, int32; a word ends there as well.
        merging: see `Merging`.
        tokens: see `Tokens`.
        scratch: see `Scratch`.
        ids: int32, room for 16 more than there are bytes, from ``first_id`` on.
        first_id: where to begin in ``ids``.
        n_at_limits: int64; how many ids there are before each limit is written here.

    Returns:
        The number of ids, counted from the beginning of ``ids``.
    """
    cache = scratch.cache
    n = np.intp(first_id)
    start = np.intp(0)
    text = 0
    while text < limits.size and at(limits, text) <= 0:  # texts without words, in front
        put(n_at_limits, text, n)
        text += 1
    for block in range(0, ends.size, BLOCK):
        block_ends = ends[block : block + BLOCK]
        find_lines(data, start, block_ends, cache, scratch.lows, scratch.highs, scratch.lines)
        for w in range(block_ends.size):
            end = np.intp(at(block_ends, w))
            if end == start:
                continue
            low, high, line = at(scratch.lows, w), at(scratch.highs, w), at(scratch.lines, w)
            count = recall(cache, line, low, high, ids, n)
            if end - start > SHORT and not spells(
                ids, n, count, data, start, tokens.spelled, tokens.offsets
            ):
                count = np.intp(0)
            if count == 0:
                count, cut = encode_new(data, start, end, merging, tokens, scratch, ids, n)
                if 0 < count <= MOST_TOKENS and end - start <= (SHORT if cut else LONGEST_KEPT):
                    remember(cache, line, low, high, ids, n, count)
            n += count
            start = end
            while text < limits.size and at(limits, text) <= start:
                put(n_at_limits, text, n)
                text += 1
    while text < limits.size:
        put(n_at_limits, text, n)
        text += 1
    return n


@lean_kernel
def encode_new(
    data: Any, start: int, end: int, merging: Any, tokens: Any, scratch: Any, ids: Any, first: int
) -> tuple[np.intp, bool]:
    """Encode a word that the cache does not know, cut between characters that never merge.

    Args:
        data: see `encode_words`, as for the others.
        start: where the word begins.
        end: where it ends.
        merging: see `Merging`.
        tokens: see `Tokens`.
        scratch: see `Scratch`.
        ids: the tokens are written here ...
        first: ... from here on.

    Returns:
        The number of tokens, and whether the word was cut.
    """
    n = np.intp(first)
    cut = False
    # Within ASCII nearly any two characters are neighbours somewhere.
    while start < end and not is_ascii(data, start, end):
        n_parts, stop = find_parts(data, start, end, merging, scratch)
        if stop == end and n_parts == 1:
            break
        cut = True
        for p in range(n_parts):
            stop = at(scratch.part_ends, p)
            low, high = at(scratch.part_lows, p), at(scratch.part_highs, p)
            if high == _CHARACTER:
                n += put_character(low, ids, n)
            else:
                line = at(scratch.part_lines, p)
                n += encode_part(data, start, stop, low, high, line, merging, scratch, ids, n)
            start = stop
    if start < end:
        if not cut and end - start >= tokens.least:
            token = find_whole(tokens.whole, data, start, end, tokens.spelled, tokens.offsets)
            if token >= 0:
                put(ids, n, np.int32(token))
                return np.intp(1), False
        n += merge(data, start, end, merging, ids, n, scratch.places)
    return n - first, cut


@inlined_kernel
def is_ascii(data: Any, start: int, end: int) -> bool:
    """Whether some bytes, behind which seven more may be read, are all ASCII."""
    found = np.uint64(0)
    for i in range(start, end - 7, 8):
        found |= load_8_bytes(data, i)
    rest = (end - start) & 7
    found |= load_8_bytes(data, end - rest) & ((np.uint64(1) << np.uint64(8 * rest)) - np.uint64(1))
    return not found & np.uint64(0x8080808080808080)


@inlined_kernel
def find_parts(
    data: Any, start: int, end: int, merging: Any, scratch: Any
) -> tuple[np.intp, np.intp]:
    """Find up to ``BLOCK`` parts of a word, whose lines in the cache begin to travel near.

    Args:
        data: UTF-8 bytes.
        start: where the first part begins.
        end: where the word ends.
        merging: see `Merging`.
        scratch: the parts are written here. The key of a part that is a single character is its
            entry, that of a long part nothing.

    Returns:
        The number of parts, and where the last one ends.
    """
    n = np.intp(0)
    part = i = np.intp(start)
    code = code_point(data, i)
    entry = entry_of(merging.characters, code)
    while i < end and n < BLOCK:
        single = part == i
        this, entry_of_this = code, entry
        i += character_size(at(data, i))
        if i < end:
            code = code_point(data, i)
            entry = entry_of(merging.characters, code)
            if not may_cut(merging.neighbours, this, entry_of_this, code, entry):
                continue
        low, high = np.uint64(entry_of_this), _CHARACTER
        if not single or not entry_of_this & ALONE:
            high = _LONG_PART
            if i - part <= SHORT:
                low, high = short_key(data, part, i)
                high |= PART
                line = line_of(scratch.cache, low, high)
                prefetch(scratch.cache, line * LINE)
                put(scratch.part_lines, n, line)
        put(scratch.part_ends, n, i)
        put(scratch.part_lows, n, low)
        put(scratch.part_highs, n, high)
        n += 1
        part = i
    return n, part


@inlined_kernel
def put_character(entry: np.uint64, ids: Any, n: int) -> np.intp:
    """Write the one or two tokens of a character that stands alone; returns their number."""
    put(ids, n, np.int32(entry & np.uint64(TOKEN)))
    second = np.int32(entry >> np.uint64(TOKEN_BITS) & np.uint64(TOKEN))
    put(ids, n + 1, second - np.int32(1))
    return np.intp(2 if second else 1)


@inlined_kernel
def encode_part(
    data: Any,
    start: int,
    end: int,
    low: np.uint64,
    high: np.uint64,
    line: int,
    merging: Any,
    scratch: Any,
    ids: Any,
    n: int,
) -> np.intp:
    """Encode a part of a word by the cache, or else merge it; see `find_parts`."""
    if high == _LONG_PART:
        return merge(data, start, end, merging, ids, n, scratch.places)
    count = recall(scratch.cache, line, low, high, ids, n)
    if count == 0:
        count = merge(data, start, end, merging, ids, n, scratch.places)
        if 0 < count <= MOST_TOKENS:
            remember(scratch.cache, line, low, high, ids, n, count)
    return count
