"""SentencePiece's normalisation of UTF-8 bytes: the fast form of `SentencePieceNormalizer.align`.

Where spaces are escaped, both a space and ``▁`` are written as one byte, 0x20, here: no other space
is left then, so that nothing is lost, and every word is two bytes shorter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN
from stemma.tokenizers.kernels.memory import at, load_8_bytes, put, store_8_bytes
from stemma.tokenizers.kernels.scan import code_point

DUMMY_PREFIX, REMOVE_EXTRA, ESCAPE, SUFFIX = 1, 2, 4, 8
FOLLOWS_OTHERS, GOES_ON = 16, 32
"""The bits of ``flags``; the last two say that the text is part of a longer one, and that its
beginning or its end is not the other's."""

SPACE = 0x20
SLOWLY, PLAIN, PLAIN_SPACE = 0, 1, 2
"""What is known of a byte: see `normalize`."""

CHANGES, BEGINS, FOLLOWS = 1, 2, 4
"""What is known of a character: see `normalize`."""

_LABEL = np.uint32(0x800000FF)
_VALUE = np.uint32(0x7FFFFFFF)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SPACES = np.uint64(0x2020202020202020)
_FIRST, _LAST = np.uint64(0x80), np.uint64(0x80) << np.uint64(56)
_8, _NONE = np.uint64(8), np.uint64(0)
_ROOM = 64


@kernel
def normalize(data: Any, start: int, end: int, rules: Any, out: Any) -> tuple[Any, int]:
    """Write the normalised text from the beginning of ``out``.

    Args:
        data: UTF-8 bytes.
        start: where the text begins.
        end: where it ends.
        rules: six things. For each byte whether it stays as it is before an ASCII byte and at the
            end (``PLAIN``), or becomes a space there (``PLAIN_SPACE``); the last number, for a byte
            that no UTF-8 has, is ``PLAIN`` if all printable ASCII characters stay. The character
            map's array, as Darts-clone packs it, of zeros if there is none; and what it writes,
            each ended by a zero byte. The cells of a `double_array` of the user-defined tokens. The
            bits that say what becomes of spaces, and where. And for each character of the first
            plane whether it may be changed whatever stands beside it (``CHANGES``), and whether it
            is the first or the second character of a string that is changed (``BEGINS``,
            ``FOLLOWS``).
        out: room for the result.

    Returns:
        ``out``, or a larger array in its place; and the number of bytes written.
    """
    known, units, strings, whole, flags, characters = rules
    remove, escape = flags & REMOVE_EXTRA != 0, flags & ESCAPE != 0
    prefix = flags & (DUMMY_PREFIX | SUFFIX | FOLLOWS_OTHERS) == DUMMY_PREFIX
    suffix = flags & (DUMMY_PREFIX | SUFFIX | GOES_ON) == DUMMY_PREFIX | SUFFIX
    after_space = remove and flags & FOLLOWS_OTHERS == 0
    i = _skip_spaces(data, start, end, units, strings, whole) if after_space else np.intp(start)
    n = np.intp(0)
    if i < end and prefix:
        put(out, n, SPACE)
        n += 1
    begins = i
    while i < end:
        if n + _ROOM > out.size:
            out = _larger(out, n)
        i, n, after_space = _copy_plain(
            data, i, end, known, characters, remove, after_space, out, n
        )
        if i == end or n + _ROOM > out.size:
            continue
        size, place = _match(data, i, end, units, whole)
        before = n
        if place < 0:
            out, n = _append(data, i, i + size, after_space, escape, out, n)
            last = at(data, i + size - 1)
        else:
            stop = _end_of(strings, place)
            out, n = _append(strings, place, stop, after_space, escape, out, n)
            last = at(strings, stop - 1)
        if n > before:
            after_space = remove and last == SPACE
        i += size
    while remove and flags & GOES_ON == 0 and n > 0 and at(out, n - 1) == SPACE:
        n -= 1
    if begins < end and suffix:
        put(out, n, SPACE)
        n += 1
    return out, n


@lean_kernel
def _skip_spaces(data: Any, start: int, end: int, units: Any, strings: Any, whole: Any) -> np.intp:
    """Where the text begins after all that is written as one space."""
    i = np.intp(start)
    while i < end:
        size, place = _match(data, i, end, units, whole)
        if place < 0 and (size > 1 or at(data, i) != SPACE):
            break
        if place >= 0 and (at(strings, place) != SPACE or at(strings, place + 1) != 0):
            break
        i += size
    return i


@lean_kernel
def _copy_plain(
    data: Any,
    i: int,
    end: int,
    known: Any,
    characters: Any,
    remove: bool,
    after_space: bool,
    out: Any,
    n: int,
) -> tuple[int, int, bool]:
    """Copy what stays as it is, as far as there is room: mostly eight bytes at once.

    Returns:
        The first byte that has to be looked up, or for which there is no room; the number of bytes
        written; whether the last is a space that no other may follow.
    """
    eight = at(known, 0xFF) == PLAIN
    while n + _ROOM <= out.size:
        if eight and i + 8 < end and at(data, i + 8) < 0x80:
            block = load_8_bytes(data, i)
            spaces = _zeros(block ^ _SPACES)
            odd = (block | (block + _ONES) | (block - _SPACES) & ~block) & _HIGHS
            if remove:
                odd |= spaces & (spaces << _8) | (_FIRST & spaces if after_space else _NONE)
            if odd == 0:
                store_8_bytes(out, n, block)
                after_space = remove and spaces & _LAST != 0
                n += 8
                i += 8
                continue
        stop = min(end, i + 8)
        while i < stop:
            lead = at(data, i)
            if lead >= 0x80:
                size = _plain_size(data, i, end, characters)
                if size == 0:
                    return i, n, after_space
                store_8_bytes(out, n, load_8_bytes(data, i))
                n += size
                i += size
                after_space = False
                continue
            kind = at(known, lead)
            beyond = i + 1 < end and at(data, i + 1) >= 0x80
            if kind == SLOWLY or (beyond and _may_follow(data, i + 1, end, characters)):
                return i, n, after_space
            if kind == PLAIN:
                put(out, n, at(data, i))
                n += 1
                after_space = False
            elif not after_space:
                put(out, n, SPACE)
                n += 1
                after_space = remove
            i += 1
        if i == end:
            break
    return i, n, after_space


@lean_kernel
def _plain_size(data: Any, i: int, end: int, characters: Any) -> np.intp:
    """The bytes of a character beyond ASCII that stays as it is; 0 if that is not certain."""
    lead = at(data, i)
    if lead >= 0xF0:
        return np.intp(0)
    size = np.intp(2) if lead < 0xE0 else np.intp(3)
    what = at(characters, code_point(data, i))
    if what & CHANGES or (what & BEGINS and _may_follow(data, i + size, end, characters)):
        return np.intp(0)
    return size


@lean_kernel
def _may_follow(data: Any, i: int, end: int, characters: Any) -> bool:
    """Whether the character at ``i`` may be the second of a string that is changed."""
    if i >= end:
        return False
    lead = at(data, i)
    if lead < 0x80 or lead >= 0xF0:
        return lead >= 0xF0 or at(characters, np.intp(lead)) & FOLLOWS != 0
    return at(characters, code_point(data, i)) & FOLLOWS != 0


@lean_kernel
def _match(data: Any, i: int, end: int, units: Any, whole: Any) -> tuple[int, int]:
    """How many bytes are rewritten at ``i``, and the place of what is written instead.

    The place is -1 for a user-defined token, and a character without a rule, which stay.
    """
    found = 0
    cell = np.intp(0)
    for j in range(i, end):
        byte = np.intp(at(data, j))
        cell = np.intp(at(whole, cell) >> BASE_SHIFT) ^ byte
        if at(whole, cell) & 0x1FF != byte | TAKEN:
            break
        if at(whole, cell) & ENDS:
            found = j + 1 - i
    if found:
        return found, -1
    place = -1
    node = np.intp(0)
    for j in range(i, end):
        byte = np.intp(at(data, j))
        node ^= _offset(at(units, node)) ^ byte
        if node >= units.size or at(units, node) & _LABEL != byte:
            break
        value = node ^ _offset(at(units, node))
        whole_characters = j + 1 == end or at(data, j + 1) & 0xC0 != 0x80
        if at(units, node) >> 8 & 1 and value < units.size and whole_characters:
            found = j + 1 - i
            place = np.intp(at(units, value) & _VALUE)
    if found:
        return found, place
    lead = at(data, i)
    return 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0), -1


@inlined_kernel
def _offset(unit: int) -> int:
    return np.intp(unit >> 10 << ((unit & (1 << 9)) >> 6))


@lean_kernel
def _end_of(strings: Any, place: int) -> int:
    end = place
    while at(strings, end) != 0:
        end += 1
    return end


@kernel
def _append(
    source: Any, i: int, end: int, after_space: bool, escape: bool, out: Any, n: int
) -> tuple[Any, int]:
    """Write ``source[i:end]``, without its leading spaces if a space has been written last."""
    while after_space and i < end and at(source, i) == SPACE:
        i += 1
    while n + (end - i) + _ROOM > out.size:
        out = _larger(out, n)
    while i < end:
        byte = at(source, i)
        is_escaped = byte == 0xE2 and i + 2 < end
        if escape and is_escaped and at(source, i + 1) == 0x96 and at(source, i + 2) == 0x81:
            byte = SPACE
            i += 2
        put(out, n, byte)
        n += 1
        i += 1
    return out, n


@kernel
def _larger(out: Any, n: int) -> Any:
    larger = np.empty(2 * out.size + _ROOM, np.uint8)
    for i in range(n):
        put(larger, i, at(out, i))
    return larger


@inlined_kernel
def _zeros(block: int) -> int:
    """The highest bit of every byte that is zero."""
    low = ~_HIGHS
    return ~(((block & low) + low) | block | low)
