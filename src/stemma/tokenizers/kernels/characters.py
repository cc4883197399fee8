"""What becomes of single characters, and between which two of them nothing is ever merged.

A merge that reaches over the edge between two characters makes a token in which they are
neighbours. Where no token has them so, a word falls into parts that are merged each by itself: a
text of Chinese, whose words are whole clauses, falls into parts of one to three characters, which
come again and again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.memory import at
from stemma.tokenizers.kernels.merge_table import (
    EMPTY,
    NEVER,
    SIEVE,
    WIDE_ID_BITS,
    find_pair,
    result_of,
)
from stemma.tokenizers.kernels.scan import character_size, code_point

TOKEN_BITS = 21
"""A character's entry holds up to two tokens of so many bits, the second plus one, and flags."""

TOKEN = np.int64((1 << TOKEN_BITS) - 1)

KNOWN = np.int64(1) << 42
"""The tokens may be taken for the character's bytes ..."""

ANYWHERE = np.int64(1) << 43
"""... even where the character before may be merged with a part of this one."""

JOINS = np.int64(1) << 44
"""What follows the character may be merged with it before it is whole."""

ALONE = np.int64(1) << 45
"""The tokens do not merge with each other."""

ENDS = np.int64(1) << 46
"""A part may end with the character ..."""

BEGINS = np.int64(1) << 47
"""... or begin with it, if the two at the edge are not among the neighbours."""

_PLANE = 1 << 16
_NEIGHBOUR_BITS = 20
CHARACTERS = _PLANE + (1 << _NEIGHBOUR_BITS - 6)
"""Numbers of 64 bits: the entries, and a bit for each two characters that are neighbours in a
token; some other two share it."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined_kernel
def entry_of(characters: Any, code: int) -> np.int64:
    """What is known of a character; nothing beyond the first 65,536."""
    return at(characters, code) if code < _PLANE else np.int64(0)


@inlined_kernel
def may_cut(
    characters: Any, before: int, entry_before: np.int64, after: int, entry_after: np.int64
) -> bool:
    """Whether nothing is ever merged across the edge between two characters.

    Args:
        characters: see `index_characters`.
        before: a character.
        entry_before: its entry.
        after: the one after it.
        entry_after: its entry.
    """
    if not entry_before & ENDS or not entry_after & BEGINS:
        return False
    bit = _neighbour_bit(before, after)
    word = np.uint64(at(characters, _PLANE + np.intp(bit >> np.uint64(6))))
    return not word >> (bit & np.uint64(63)) & np.uint64(1)


@inlined_kernel
def _neighbour_bit(before: int, after: int) -> np.uint64:
    return (np.uint64(before) << np.uint64(16) | np.uint64(after)) * _MIX >> np.uint64(
        64 - _NEIGHBOUR_BITS
    )


@kernel
def index_characters(spelled: Any, offsets: Any, merging: Any, unmade: Any) -> None:
    """Fill the table of characters.

    Args:
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        merging: see `Merging`; ``characters``, int64 of ``CHARACTERS`` zeros, is filled.
        unmade: tokens that a word becomes as it stands, although no merges make them, int32; such a
            word is not cut.
    """
    byte_ids, characters = merging.byte_ids, merging.characters
    for byte in range(0x80, 0xF5):
        if byte_ids[byte] < 0 and byte & 0xFE != 0xC0:
            return  # a character's parts may then become neighbours of others'
    for code in range(_PLANE):
        if code >= 0x80:
            characters[code] = ENDS | BEGINS
        elif byte_ids[code] >= 0:
            characters[code] = ENDS | BEGINS | ALONE | np.int64(byte_ids[code])
    for token in unmade:
        mark_all(spelled, offsets[token], offsets[token + 1], characters)
    n_tokens = offsets.size - 1
    from_left = np.full(n_tokens, NEVER, np.int32)
    from_right = np.full(n_tokens, NEVER, np.int32)
    low = (np.uint64(1) << WIDE_ID_BITS) - np.uint64(1)
    for entry in merging.pairs[SIEVE:]:
        if entry == EMPTY:
            continue
        left = np.intp(entry >> (WIDE_ID_BITS + WIDE_ID_BITS))
        right = np.intp(entry >> WIDE_ID_BITS & low)
        rank = np.int32(entry & low)
        from_left[right] = min(from_left[right], rank)
        byte = spelled[offsets[right]]
        if byte < 0x80 or byte >= 0xC0:
            from_right[left] = min(from_right[left], rank)
            mark_neighbours(spelled, offsets, left, right, characters)
    for code in range(0x80, _PLANE):
        characters[code] |= merge_character(code, merging, from_left, from_right)


@lean_kernel
def merge_character(code: int, merging: Any, from_left: Any, from_right: Any) -> np.int64:
    """What the bytes of a character become before anything else happens to them, as an entry.

    Two bytes of a character are merged first if all pairs of one of its parts and something outside
    have higher ranks; so are its parts then, until one of these pairs may come first. In UTF-8 what
    follows a character begins with no byte of the kind that goes on with one. What precedes it is
    whole, and few characters are the end of a token that merges with the beginning of another
    character: those have the flag ``JOINS``.

    Args:
        code: a character of two or three bytes.
        merging: see `Merging`.
        from_left: for each token the lowest rank of a pair whose right half it is.
        from_right: the lowest rank of a pair whose left half it is, and whose right half does not
            begin within a character.
    """
    last = merging.byte_ids[0x80 | code & 0x3F]
    if code < 0x800:
        n = 2
        first, second, third = merging.byte_ids[0xC0 | code >> 6], last, last
    else:
        n = 3
        first, third = merging.byte_ids[0xE0 | code >> 12], last
        second = merging.byte_ids[0x80 | code >> 6 & 0x3F]
    if first < 0:
        return np.int64(0)
    flags = KNOWN | ANYWHERE
    best = NEVER
    while n > 1:
        best = find_pair(merging.pairs, first, second)
        other = find_pair(merging.pairs, second, third) if n == 3 else NEVER
        rank = min(best, other)
        if rank == NEVER or rank >= from_right[third if n == 3 else second]:
            break
        if rank >= from_left[first]:
            flags &= ~ANYWHERE
        if other < best:
            second = result_of(merging.results, other)
        else:
            first = result_of(merging.results, best)
            second = third
        n -= 1
    if n == 3:
        return np.int64(0)
    if n == 1:
        return np.int64(first) | flags | ALONE
    if best == NEVER:
        flags |= ALONE
    return np.int64(first) | (np.int64(second) + 1) << TOKEN_BITS | flags


@lean_kernel
def mark_neighbours(spelled: Any, offsets: Any, left: int, right: int, characters: Any) -> None:
    """Note which characters two tokens that merge bring together.

    Args:
        spelled: see `index_characters`.
        offsets: likewise.
        left: a token.
        right: a token that begins with the first byte of a character.
        characters: the flags and bits are set here.
    """
    first = offsets[right]
    byte = spelled[first]
    size = character_size(byte)
    start, end = offsets[left], offsets[left + 1]
    if offsets[right + 1] - first < size:
        mark_joining(spelled, start, end, characters)
        return
    after = code_point(spelled, first)
    if after >= _PLANE:
        return
    last = end - 1
    while last > start and spelled[last] & 0xC0 == 0x80:
        last -= 1
    if spelled[last] & 0xC0 == 0x80:
        characters[after] &= ~BEGINS
        return
    mark_two(characters, code_point(spelled, last), after)


@lean_kernel
def mark_all(spelled: Any, start: int, end: int, characters: Any) -> None:
    """Note that all characters of a token have their neighbours in it."""
    i = start
    while i < end:
        following = i + character_size(spelled[i])
        if following < end:
            mark_two(characters, code_point(spelled, i), code_point(spelled, following))
        i = following


@lean_kernel
def mark_two(characters: Any, before: int, after: int) -> None:
    """Note that two characters are neighbours."""
    if before < _PLANE and after < _PLANE:
        bit = _neighbour_bit(before, after)
        mark = np.uint64(1) << (bit & np.uint64(63))
        characters[_PLANE + np.intp(bit >> np.uint64(6))] |= np.int64(mark)


@lean_kernel
def mark_joining(spelled: Any, start: int, end: int, characters: Any) -> None:
    """Set ``JOINS`` for the characters that the bytes ``start:end`` may be the end of."""
    code = np.intp(0)
    n_bits = 0
    i = end - 1
    while i >= start and spelled[i] >= 0x80 and spelled[i] < 0xC0:
        code |= np.intp(spelled[i] & 0x3F) << n_bits
        n_bits += 6
        i -= 1
    step = 1
    n = 1
    if i >= start:
        if n_bits == 0 and spelled[i] < 0x80:
            code = np.intp(spelled[i])
        elif n_bits == 6 and spelled[i] >= 0xC0 and spelled[i] < 0xE0:
            code |= np.intp(spelled[i] & 0x1F) << 6
        elif n_bits == 12 and spelled[i] >= 0xE0 and spelled[i] < 0xF0:
            code |= np.intp(spelled[i] & 0x0F) << 12
        else:
            return
    elif n_bits <= 12:
        step = 1 << n_bits
        n = _PLANE >> n_bits
    else:
        return
    for k in range(n):
        characters[k * step | code] |= JOINS
        characters[k * step | code] &= ~ENDS
