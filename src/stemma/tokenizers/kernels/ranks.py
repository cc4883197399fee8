"""Which pairs are ever merged by tiktoken's rule, and which tokens merging makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import kernel
from stemma.tokenizers.kernels.merge_table import add_pair
from stemma.tokenizers.kernels.merging import PLACES, SMALL, merge_large, merge_small
from stemma.tokenizers.kernels.vocabulary import find_whole


@kernel
def index_ranks(spelled: Any, offsets: Any, learned: Any, whole: Any, merging: Any) -> None:
    """Fill the tables of pairs by tiktoken's rule: a pair's rank is the id its bytes spell.

    Many pairs may spell a token, but only one of them is ever merged into it: the bytes between two
    edges are merged as if they stood alone, so that the last merge is the one by which the token's
    own bytes become one. For most tokens that is found with the pairs of lower ranks, which are all
    there when a token has its turn.

    Args:
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        learned: the ids, rising.
        whole: see `find_whole`.
        merging: see `Merging`; in ``pairs`` there is room for twice as many pairs, and nothing yet,
            nor in ``byte_pairs`` and ``characters``.
    """
    byte_ids, byte_pairs, pairs = merging.byte_ids, merging.byte_pairs, merging.pairs
    ids = np.empty(SMALL, np.int32)
    places = np.empty(PLACES, np.int32)
    for token in learned:
        start, end = offsets[token], offsets[token + 1]
        missing = False
        for i in range(start, end):
            missing = missing or byte_ids[spelled[i]] < 0
        if end - start < 2 or missing:
            continue  # no merge makes it
        n = 0
        if end - start <= SMALL:
            n = merge_small(spelled, start, end, merging, ids, 0, places)
        if n == 2:
            add_pair(pairs, ids[0], ids[1], token)
            if end - start == 2:
                byte_pairs[np.intp(spelled[start]) << 8 | np.intp(spelled[start + 1])] = token
        else:
            middle = last_edge(spelled, start, end, whole, offsets)
            if middle >= 0:
                left = find_whole(whole, spelled, start, middle, spelled, offsets)
                right = find_whole(whole, spelled, middle, end, spelled, offsets)
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
def reachable(candidates: Any, spelled: Any, offsets: Any, merging: Any) -> Any:
    """Those of some tokens that merging makes out of their own bytes.

    Args:
        candidates: the tokens.
        spelled: the bytes of all tokens.
        offsets: where each token begins in ``spelled``.
        merging: see `Merging`; nothing in ``characters``, as a token may end within one.
    """
    found = np.empty(candidates.size, np.int32)
    n_found = 0
    places = np.empty(PLACES, np.int32)
    longest = 1
    for token in candidates:
        longest = max(longest, offsets[token + 1] - offsets[token])
    ids = np.empty(longest, np.int32)
    for token in candidates:
        start, end = offsets[token], offsets[token + 1]
        if end - start <= SMALL:
            n = merge_small(spelled, start, end, merging, ids, 0, places)
        else:
            n = merge_large(spelled, start, end, merging, ids, 0)
        if n == 1 and ids[0] == token:
            found[n_found] = token
            n_found += 1
    return found[:n_found]
