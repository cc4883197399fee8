"""What becomes of single characters, and which of them may stand at the edge of a part."""

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
from stemma.tokenizers.kernels.neighbours import add_all, add_two, are_neighbours
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

CHARACTERS = 1 << 16
"""The characters that have an entry."""


@inlined_kernel
def entry_of(characters: Any, code: int) -> np.int64:
    """What is known of a character; nothing beyond the first 65,536."""
    return at(characters, code) if code < CHARACTERS else np.int64(0)


@inlined_kernel
def may_cut(
    neighbours: Any, before: int, entry_before: np.int64, after: int, entry_after: np.int64
) -> bool:
    """Whether nothing is ever merged across the edge between two characters.

    Args:
        neighbours: see `are_neighbours`.
        before: a character.
        entry_before: its entry.
        after: the one after it.
        entry_after: its entry.
    """
    if not entry_before & ENDS or not entry_after & BEGINS:
        return False
    return not are_neighbours(neighbours, before, after)


@kernel
def index_characters(spelled: Any, offsets: Any, merging: Any, unmade: Any) -> None:
    """Fill the tables of characters and of neighbours.

    Args:
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        merging: see `Merging`; ``characters``, int64 of ``CHARACTERS`` zeros, is filled, and
            ``neighbours``.
        unmade: tokens that a word becomes as it stands, although no merges make them, int32; such a
            word is not cut.
    """
    byte_ids, characters = merging.byte_ids, merging.characters
    for byte in range(0x80, 0xF5):
        if byte_ids[byte] < 0 and byte & 0xFE != 0xC0:
            return  # a character's parts may then become neighbours of others'
    for code in range(CHARACTERS):
        if code >= 0x80:
            characters[code] = ENDS | BEGINS
        elif byte_ids[code] >= 0:
            characters[code] = ENDS | BEGINS | ALONE | np.int64(byte_ids[code])
    for token in unmade:
        add_all(merging.neighbours, spelled, offsets[token], offsets[token + 1])
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
            mark_edge(spelled, offsets, left, right, merging)
    for code in range(0x80, CHARACTERS):
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
        made = result_of(merging.results, rank)
        if min(from_left[made], from_right[made]) <= rank:
            break  # a merge of what is made comes before the one that makes it
        if rank >= from_left[first]:
            flags &= ~ANYWHERE
        if other < best:
            second = made
        else:
            first = made
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
def mark_edge(spelled: Any, offsets: Any, left: int, right: int, merging: Any) -> None:
    """Note which characters two tokens that merge bring together, or their parts.

    Args:
        spelled: see `index_characters`.
        offsets: likewise.
        left: a token.
        right: a token that begins with the first byte of a character.
        merging: the flags of ``characters`` and ``neighbours`` are set.
    """
    first = offsets[right]
    byte = spelled[first]
    size = character_size(byte)
    start, end = offsets[left], offsets[left + 1]
    if offsets[right + 1] - first < size:
        mark_joining(spelled, start, end, merging.characters)
        return
    after = code_point(spelled, first)
    last = end - 1
    while last > start and spelled[last] & 0xC0 == 0x80:
        last -= 1
    if spelled[last] & 0xC0 == 0x80:
        if after < CHARACTERS:
            merging.characters[after] &= ~BEGINS
        return
    add_two(merging.neighbours, code_point(spelled, last), after)


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
        n = CHARACTERS >> n_bits
    else:
        return
    for k in range(n):
        characters[k * step | code] |= JOINS
        characters[k * step | code] &= ~ENDS
