"""Finding the ends of words with a state machine: the fast form of `WordSplitter.split`."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at, put


@inlined_kernel
def code_point(data: Any, i: int) -> int:
    """The character that begins at byte ``i`` of UTF-8."""
    byte = np.intp(at(data, i))
    if byte < 0x80:
        return byte
    second = np.intp(at(data, i + 1)) & 0x3F
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | second
    third = np.intp(at(data, i + 2)) & 0x3F
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | second << 6 | third
    return (byte & 0x07) << 18 | second << 12 | third << 6 | (np.intp(at(data, i + 3)) & 0x3F)


@inlined_kernel
def character_size(byte: int) -> np.intp:
    """The number of bytes of the character that begins with a byte."""
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@lean_kernel
def word_ends(
    data: Any, limits: Any, kinds: Any, machine: Any, fast: Any, double: Any, ends: Any
) -> int:
    """Fill ``ends`` with the ends of the words of several stretches of text.

    What the pattern finds nothing in is a word too, up to the next word that it finds.

    Args:
        data: UTF-8 bytes, uint8.
        limits: where each stretch ends, int32, rising; the first begins at 0. No word crosses one.
        kinds: the kind of each code point, uint8.
        machine: see `scan.tables.Tables`.
        fast: see `scan.tables.Tables`; of one element if there is no such table.
        double: see `scan.tables.Tables`.
        ends: int32, with room for one word a byte, and one more.

    Returns:
        The number of words.
    """
    if fast.size == 1:
        return _with_failures(data, limits, kinds, machine, ends)
    width = np.intp(at(fast, 0))
    shift = 0
    while 1 << shift < width:
        shift += 1
    n = 0
    start = 0
    for limit in limits:
        i = np.intp(start)
        state = width
        while True:
            while i < limit:
                both = state << shift
                while i + 1 < limit:
                    byte, second = np.intp(at(data, i)), np.intp(at(data, i + 1))
                    if (byte | second) >= 0x80:
                        break
                    two = np.intp(at(kinds, byte)) << shift | np.intp(at(kinds, second))
                    step = at(double, 1 + both + two)
                    if step & 4:
                        break
                    # Written in any case, kept only if a word ends here: no branch to mispredict.
                    put(ends, n, np.int32(i))
                    n += step & 1
                    put(ends, n, np.int32(i + 1))
                    n += step >> 1 & 1
                    both = np.intp(step >> 3)
                    i += 2
                state = both >> shift
                if i >= limit:
                    continue
                byte = at(data, i)
                if byte < 0x80:
                    step = at(fast, 1 + state + at(kinds, byte))
                    size = 1
                else:
                    size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                    step = at(fast, 1 + state + at(kinds, code_point(data, i)))
                put(ends, n, np.int32(i))
                n += step & 1
                state = np.intp(step >> 2)
                if step & 2:
                    break
                i += size
            else:
                step = at(fast, state + width)
                put(ends, n, np.int32(limit))
                n += step & 1
                if not step & 2:
                    break
            # The word ended before the place where that was noticed.
            first = start if n == 0 or at(ends, n - 1) < start else at(ends, n - 1)
            i = np.intp(match_end(data, first, limit, kinds, machine))
            put(ends, n, np.int32(i))
            n += 1
            state = width
        start = limit
    return n


@lean_kernel
def match_end(data: Any, start: int, limit: int, kinds: Any, machine: Any) -> int:
    """Where the match that begins at ``start`` ends; -1 if there is none: `Machine.match`."""
    width = np.intp(at(machine, 0))
    state = width
    last = -1
    i = np.intp(start)
    while i < limit:
        byte = at(data, i)
        step = at(machine, 1 + state + at(kinds, code_point(data, i)))
        if step & 1:
            last = i
        state = np.intp(step >> 1)
        if state == 0:
            return last
        i += character_size(byte)
    return limit if at(machine, state + width) & 1 else last


@lean_kernel
def _with_failures(data: Any, limits: Any, kinds: Any, machine: Any, ends: Any) -> int:
    """`word_ends` for a pattern that may read some characters and then find no match after all."""
    n = 0
    start = 0
    for limit in limits:
        gap = -1
        while start < limit:
            last = match_end(data, start, limit, kinds, machine)
            if last < 0:
                gap = start if gap < 0 else gap
                byte = at(data, start)
                start += character_size(byte)
                continue
            if gap >= 0:
                ends[n] = start
                n += 1
                gap = -1
            ends[n] = last
            n += 1
            start = last
        if gap >= 0:
            ends[n] = limit
            n += 1
    return n


@lean_kernel
def sure_edge(data: Any, start: int, end: int, kinds: Any, edges: Any) -> int:
    """The first place after ``start`` where a word ends in any case; ``end`` if there is none.

    Args:
        data: UTF-8 bytes, uint8.
        start: a place between two characters.
        end: where the text ends.
        kinds: the kind of each code point.
        edges: for two kinds whether a word always ends between them, bool.
    """
    before = -1
    i = start
    while i < end:
        byte = at(data, i)
        size = character_size(byte)
        kind = np.intp(at(kinds, code_point(data, i)))
        if before >= 0 and edges[before, kind]:
            return i
        before = kind
        i += size
    return end
