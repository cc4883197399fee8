"""What merging needs of a vocabulary: the pairs ever merged, and the characters merged first."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel
from stemma.tokenizers.kernels.merge_table import (
    EMPTY,
    NEVER,
    SIEVE,
    WIDE_ID_BITS,
    add_pair,
    find_pair,
)
from stemma.tokenizers.kernels.merging import (
    ANYWHERE,
    JOINS,
    KNOWN,
    SCRATCH,
    SMALL,
    TOKEN_BITS,
    merge_large,
    merge_small,
    result_of,
)
from stemma.tokenizers.kernels.vocabulary import find_whole


@kernel
def index_ranks(
    spelled: Any, offsets: Any, learned: Any, whole: Any, byte_ids: Any, pairs: Any, results: Any
) -> None:
    """Fill the table of `find_pair` by tiktoken's rule: a pair's rank is the id its bytes spell.

    Many pairs may spell a token, but only one of them is ever merged into it: the bytes between two
    edges are merged as if they stood alone, so that the last merge is the one by which the token's
    own bytes become one. For most tokens that is found with the pairs of lower ranks.

    Args:
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        learned: the ids, rising.
        whole: see `find_whole`.
        byte_ids: the id of each byte.
        pairs: uint64, all ones; room for twice as many pairs.
        results: empty, see `merge_small`.
    """
    ids = np.empty(SMALL, np.int32)
    scratch = np.empty(SCRATCH, np.int32)
    byte_pairs = np.full(1 << 16, NEVER, np.int32)
    characters = np.zeros(1 << 16, np.int64)
    irregular = np.empty(learned.size, np.int32)
    n_irregular = 0
    for token in learned:
        start, end = offsets[token], offsets[token + 1]
        missing = False
        for i in range(start, end):
            missing = missing or byte_ids[spelled[i]] < 0
        if end - start < 2 or missing:
            continue  # no merge makes it
        n = 0
        if end - start <= SMALL:
            n = merge_small(
                spelled,
                start,
                end,
                byte_ids,
                byte_pairs,
                characters,
                pairs,
                results,
                ids,
                0,
                scratch,
            )
        if n == 2:
            add_pair(pairs, ids[0], ids[1], token)
            if end - start == 2:
                byte_pairs[np.intp(spelled[start]) << 8 | np.intp(spelled[start + 1])] = token
        else:
            irregular[n_irregular] = token
            n_irregular += 1
    for token in irregular[:n_irregular]:
        middle = last_edge(spelled, offsets[token], offsets[token + 1], whole, offsets)
        if middle >= 0:
            left = find_whole(whole, spelled, offsets[token], middle, spelled, offsets)
            right = find_whole(whole, spelled, middle, offsets[token + 1], spelled, offsets)
            add_pair(pairs, left, right, token)


@kernel
def last_edge(spelled: Any, start: int, end: int, whole: Any, offsets: Any) -> int:
    """Where the last edge stood before the bytes ``start:end`` became one token; -1 if never.

    Follows tiktoken's rule to the letter, by looking up joined bytes.
    """
    edges = np.arange(start, end + 1)
    n = end - start
    while n > 1:
        best = -1
        place = 0
        for i in range(n - 1):
            token = find_whole(whole, spelled, edges[i], edges[i + 2], spelled, offsets)
            if token >= 0 and (best < 0 or token < best):
                best = token
                place = i
        if best < 0:
            return -1
        if n == 2:
            return edges[1]
        for i in range(place + 1, n):
            edges[i] = edges[i + 1]
        n -= 1
    return -1


@kernel
def reachable(
    candidates: Any,
    spelled: Any,
    offsets: Any,
    byte_ids: Any,
    byte_pairs: Any,
    pairs: Any,
    results: Any,
) -> Any:
    """Those of some tokens that merging makes out of their own bytes."""
    characters = np.zeros(1 << 16, np.int64)  # a token may end within a character
    found = np.empty(candidates.size, np.int32)
    n_found = 0
    scratch = np.empty(SCRATCH, np.int32)
    longest = 1
    for token in candidates:
        longest = max(longest, offsets[token + 1] - offsets[token])
    ids = np.empty(longest, np.int32)
    for token in candidates:
        start, end = offsets[token], offsets[token + 1]
        if end - start <= SMALL:
            n = merge_small(
                spelled,
                start,
                end,
                byte_ids,
                byte_pairs,
                characters,
                pairs,
                results,
                ids,
                0,
                scratch,
            )
        else:
            n = merge_large(spelled, start, end, byte_ids, pairs, results, ids, 0)
        if n == 1 and ids[0] == token:
            found[n_found] = token
            n_found += 1
    return found[:n_found]


@kernel
def index_characters(
    pairs: Any,
    results: Any,
    byte_ids: Any,
    spelled: Any,
    offsets: Any,
    characters: Any,
) -> None:
    """Find what the bytes of each character become before anything else happens to them.

    Two bytes of a character are merged first if all pairs of one of its parts and something outside
    have higher ranks; so are its parts then, until one of these pairs may come first. In UTF-8 what
    follows a character begins with no byte of the kind that goes on with one. What precedes it is
    whole, and few characters are the end of a token that merges with the beginning of another
    character: those have the flag ``JOINS``.

    Args:
        pairs: see `find_pair`.
        results: see `merge_small`.
        byte_ids: the token of each byte, or -1.
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        characters: int64 of 65,536 zeros; filled with entries as `place_tokens` reads them.
    """
    for byte in range(0x80, 0xF5):
        if byte_ids[byte] < 0 and byte & 0xFE != 0xC0:
            return  # a character's parts may then become neighbours of others'
    n_tokens = offsets.size - 1
    from_left = np.full(n_tokens, NEVER, np.int32)
    from_right = np.full(n_tokens, NEVER, np.int32)
    low = (np.uint64(1) << WIDE_ID_BITS) - np.uint64(1)
    for entry in pairs[SIEVE:]:
        if entry == EMPTY:
            continue
        left = np.intp(entry >> (WIDE_ID_BITS + WIDE_ID_BITS))
        right = np.intp(entry >> WIDE_ID_BITS & low)
        rank = np.int32(entry & low)
        from_left[right] = min(from_left[right], rank)
        byte = spelled[offsets[right]]
        if byte < 0x80 or byte >= 0xC0:
            from_right[left] = min(from_right[left], rank)
            whole = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            if offsets[right + 1] - offsets[right] < whole:
                mark_joining(spelled, offsets[left], offsets[left + 1], characters)
    parts = np.empty(3, np.int32)
    for code in range(0x80, 0x10000):
        if code < 0x800:
            n = 2
            parts[0], parts[1] = byte_ids[0xC0 | code >> 6], byte_ids[0x80 | code & 0x3F]
        else:
            n = 3
            parts[0], parts[1] = byte_ids[0xE0 | code >> 12], byte_ids[0x80 | code >> 6 & 0x3F]
            parts[2] = byte_ids[0x80 | code & 0x3F]
        if parts[0] < 0:
            continue
        anywhere = True
        while n > 1:
            best, place = find_pair(pairs, parts[0], parts[1]), 0
            if n == 3:
                other = find_pair(pairs, parts[1], parts[2])
                if other < best:
                    best, place = other, 1
            if best == NEVER or best >= from_right[parts[n - 1]]:
                break
            anywhere = anywhere and best < from_left[parts[0]]
            parts[place] = result_of(results, best)
            if place == 0 and n == 3:
                parts[1] = parts[2]
            n -= 1
        if n < 3:
            second = np.int64(parts[1]) + 1 if n == 2 else np.int64(0)
            entry = np.int64(parts[0]) | second << TOKEN_BITS | KNOWN
            characters[code] |= entry | ANYWHERE if anywhere else entry


@kernel
def mark_joining(spelled: Any, start: int, end: int, characters: Any) -> None:
    """Set ``JOINS`` for the characters that the bytes ``start:end`` may be the end of."""
    code = np.intp(0)
    n_bits = 0
    i = end - 1
    while i >= start and spelled[i] >= 0x80 and spelled[i] < 0xC0:
        code |= np.intp(spelled[i] & 0x3F) << n_bits
        n_bits += 6
        i -= 1
    if i >= start:
        if n_bits == 0 and spelled[i] < 0x80:
            characters[spelled[i]] |= JOINS
        elif n_bits == 6 and spelled[i] >= 0xC0 and spelled[i] < 0xE0:
            characters[np.intp(spelled[i] & 0x1F) << 6 | code] |= JOINS
        elif n_bits == 12 and spelled[i] >= 0xE0 and spelled[i] < 0xF0:
            characters[np.intp(spelled[i] & 0x0F) << 12 | code] |= JOINS
    elif n_bits <= 12:
        for rest in range(0x10000 >> n_bits):
            characters[rest << n_bits | code] |= JOINS
