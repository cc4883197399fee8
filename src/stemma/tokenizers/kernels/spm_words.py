"""Words of SentencePiece's families: where they end, and a table of those seen before.

An entry of the table is one line of the processor's cache: up to 15 bytes of a word and their
number, what is known of the word, and its tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at, load_8_bytes, put
from stemma.tokenizers.kernels.neighbours import are_neighbours
from stemma.tokenizers.kernels.scan import character_size, code_point

SPACE = 0x20
WHOLE, SPACE_FIRST, SPACE_LAST = 0, 1, 2
"""How a text falls into words: not at all, or runs of spaces belong to what follows or precedes."""

ENTRY = 8
"""Numbers of an entry: the word (2), what is known of it (1), two tokens each (5)."""

MOST_TOKENS = 2 * (ENTRY - 3)
LONGEST = 15
ROOM = 64
"""So many bytes behind a normalised text can be read."""

_WIDE = 0xE0
"""The first byte of a character of three or four begins here."""

_NEIGHBOURS = 4
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SPACES = np.uint64(0x2020202020202020)
_ONE = np.uint64(1)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def new_table(slots: int) -> Any:
    """An empty table of a power of two of entries, each in one line of the cache."""
    room = np.zeros((slots + 1) * ENTRY, np.uint64)
    skipped = -room.ctypes.data % (8 * ENTRY) // 8
    return room[skipped : skipped + slots * ENTRY]


@intrinsic
def lowest_byte(typing_context: Any, mask: Any) -> Any:
    """The number of the lowest byte of ``mask``, uint64, that is not zero; 8 if there is none."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.lshr(bits, ir.Constant(ir.IntType(64), 3))

    return types.intp(types.uint64), codegen


@inlined_kernel
def next_space(data: Any, i: int, end: int) -> int:
    """Where the first space from ``i`` on is, or ``end``."""
    while i < end:
        other = load_8_bytes(data, i) ^ _SPACES
        spaces = (other - _ONES) & ~other & _HIGHS
        if spaces:
            return min(end, i + lowest_byte(spaces))
        i += 8
    return end


@lean_kernel
def word_end(data: Any, start: int, end: int, words: int, neighbours: Any) -> np.intp:
    """Where the word that begins at ``start`` ends.

    A word of Chinese, or a long one, also ends where no piece reaches over.

    Args:
        data: the normalised text, behind which ``ROOM`` bytes can be read.
        start: where the word begins.
        end: where the text ends.
        words: how it falls into words.
        neighbours: see `are_neighbours`; all ones, if words are not to be cut.
    """
    first = np.intp(start)
    if words == SPACE_FIRST:
        while first < end and at(data, first) == SPACE:
            first += 1
    near = min(end, first + LONGEST + 1)
    if words != WHOLE and at(data, first) < _WIDE:
        i = next_space(data, first, near)
        if words == SPACE_LAST:
            while i < near and at(data, i) == SPACE:
                i += 1
        if i < near or i == end:
            return i
    before = code_point(data, first)
    i = first + character_size(at(data, first))
    while i < end:
        after = code_point(data, i)
        at_space = words != WHOLE and (before == SPACE) != (after == SPACE)
        if at_space and (after == SPACE) == (words == SPACE_FIRST):
            return i
        if not are_neighbours(neighbours, before, after):
            return i
        before = after
        i += character_size(at(data, i))
    return np.intp(end)


@inlined_kernel
def word_key(data: Any, start: int, size: int) -> tuple[int, int]:
    """A word of up to 15 bytes, and their number, as two numbers."""
    first, second = load_8_bytes(data, start), np.uint64(0)
    if size < 8:
        first &= (_ONE << np.uint64(8 * size)) - _ONE
    elif size > 8:
        second = load_8_bytes(data, start + 8) & ((_ONE << np.uint64(8 * size - 64)) - _ONE)
    return first, second | np.uint64(size) << np.uint64(56)


@inlined_kernel
def find_entry(table: Any, first: int, second: int) -> int:
    """Where the entry of a word begins; -1 if there is none."""
    mask = np.uint64(table.size // ENTRY - 1)
    slot = (first * _MIX_1 ^ second * _MIX_2) >> _32
    for i in range(_NEIGHBOURS):
        place = np.intp(slot + np.uint64(i) & mask) * ENTRY
        if at(table, place) == first and at(table, place + 1) == second:
            return place
    return -1


@lean_kernel
def add_entry(
    table: Any, first: int, second: int, known: int, tokens: Any, start: int, n_tokens: int
) -> None:
    """Keep a word, in the place of another one if there is no free place nearby.

    Args:
        table: see `new_table`.
        first: see `word_key`.
        second: see there.
        known: any number below 2^56.
        tokens: the tokens, in this order, from ...
        start: ... here on.
        n_tokens: how many they are, at most `MOST_TOKENS`.
    """
    mask = np.uint64(table.size // ENTRY - 1)
    slot = (first * _MIX_1 ^ second * _MIX_2) >> _32
    place = np.intp(slot & mask) * ENTRY
    for i in range(_NEIGHBOURS):
        other = np.intp(slot + np.uint64(i) & mask) * ENTRY
        if at(table, other + 1) == 0:
            place = other
            break
    put(table, place, first)
    put(table, place + 1, second)
    put(table, place + 2, np.uint64(known) << np.uint64(8) | np.uint64(n_tokens))
    for i in range(n_tokens):
        cell = place + 3 + (i >> 1)
        token = np.uint64(at(tokens, start + i))
        put(table, cell, token if i & 1 == 0 else at(table, cell) | token << _32)


@inlined_kernel
def entry_known(table: Any, place: int) -> int:
    """What is known of the word at ``place``."""
    return np.intp(at(table, place + 2) >> np.uint64(8))


@inlined_kernel
def copy_tokens(table: Any, place: int, ids: Any, n: int) -> int:
    """Write the tokens of the word at ``place`` to ``ids`` from ``n`` on; the new ``n``.

    There has to be room for `MOST_TOKENS`.
    """
    count = np.intp(at(table, place + 2) & np.uint64(0xFF))
    i = 0
    while True:  # four at a time: nearly always that is all
        for k in range(2):
            pair = at(table, place + 3 + (i >> 1) + k)
            put(ids, n + i + 2 * k, np.int32(pair & _LOW))
            put(ids, n + i + 2 * k + 1, np.int32(pair >> _32))
        i += 4
        if i >= count:
            return n + count


@lean_kernel
def emit_unknown(
    data: Any, i: int, size: int, byte_ids: Any, unknown: int, escape: bool, ids: Any, n: int
) -> int:
    """Write what stands for an unknown character: its bytes, or one token.

    Args:
        data: the normalised text.
        i: where the character begins.
        size: how many bytes it has.
        byte_ids: the token of each byte; of one element if bytes have no tokens.
        unknown: the token of an unknown character.
        escape: whether a space stands for ``▁``.
        ids: the tokens are written here ...
        n: ... from here on.

    Returns:
        The number of tokens now written.
    """
    if byte_ids.size == 1:
        put(ids, n, unknown)
        return n + 1
    if escape and at(data, i) == SPACE:
        put(ids, n, at(byte_ids, 0xE2))
        put(ids, n + 1, at(byte_ids, 0x96))
        put(ids, n + 2, at(byte_ids, 0x81))
        return n + 3
    for k in range(size):
        put(ids, n + k, at(byte_ids, at(data, i + k)))
    return n + size


@kernel
def larger(ids: Any, n: int, more: int) -> Any:
    """A larger array that begins with the first ``n`` of ``ids``."""
    new = np.empty(2 * ids.size + more, np.int32)
    for i in range(n):
        put(new, i, at(ids, i))
    return new


@kernel
def beginning(ids: Any, n: int) -> Any:
    """The first ``n`` of ``ids`` as an array of their own."""
    new = np.empty(n, np.int32)
    for i in range(n):
        put(new, i, at(ids, i))
    return new
