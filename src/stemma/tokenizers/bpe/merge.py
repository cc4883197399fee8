"""Applying merges to one word: the readable way, and one that stays fast on long words."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]
NEVER = 1 << 62
"""The rank of a pair that is not merged."""


class SpelledRanks(Mapping[Pair, int]):
    """tiktoken's rule: the rank of a pair is the id that its joined bytes spell.

    Args:
        spellings: the bytes of each id.
        ids: bytes -> id of the tokens that merging may make.
    """

    def __init__(self, spellings: Sequence[bytes], ids: Mapping[bytes, int]) -> None:
        self._spellings = spellings
        self._ids = ids

    def __getitem__(self, pair: Pair) -> int:
        left, right = pair
        return self._ids[self._spellings[left] + self._spellings[right]]

    def __iter__(self) -> Iterator[Pair]:
        for spelling in self._ids:
            for i in range(1, len(spelling)):
                left, right = self._ids.get(spelling[:i]), self._ids.get(spelling[i:])
                if left is not None and right is not None:
                    yield left, right

    def __len__(self) -> int:
        return sum(1 for _ in self)


def replace_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of ``pair`` by ``new``, from left to right."""
    replaced: list[int] = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            replaced.append(new)
            i += 2
        else:
            replaced.append(ids[i])
            i += 1
    return replaced


def merge_word(ids: list[int], ranks: Mapping[Pair, int], results: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank, the leftmost of several, until no pair can be merged.

    Takes time n², which no word of usual length notices; beyond that see `merge_long_word`.

    Args:
        ids: the word as ids of bytes; used up.
        ranks: pair -> place in the list of merges.
        results: place in the list of merges -> id that the merge makes.
    """
    while len(ids) > 1:
        found = [ranks.get(pair, NEVER) for pair in pairwise(ids)]
        rank = min(found)
        if rank == NEVER:
            break
        at = found.index(rank)
        ids[at : at + 2] = [results[rank]]
    return ids


def merge_long_word(ids: list[int], ranks: Mapping[Pair, int], results: Sequence[int]) -> list[int]:
    """`merge_word` in time n log n: a linked list of ids, and a heap of the pairs in it.

    A pair in the heap may have been changed by a merge beside it; it is recognised when it comes
    up, because its two ids no longer have the rank under which it was filed.

    Afterwards ``ids`` itself holds the result with -1 where an id was merged away, so that one can
    see where each stands.
    """
    n = len(ids)
    before = list(range(-1, n - 1))
    after = list(range(1, n + 1))
    # One integer files a pair by rank, then by position: a million tuples would take a second.
    heap = [ranks[pair] * n + at for at, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, at = divmod(heapq.heappop(heap), n)
        right = after[at]
        if ids[at] < 0 or right == n or ranks.get((ids[at], ids[right])) != rank:
            continue
        ids[at], ids[right] = results[rank], -1
        after[at] = beyond = after[right]
        if beyond < n:
            before[beyond] = at
        for left in (before[at], at):
            if left >= 0 and after[left] < n:
                new_rank = ranks.get((ids[left], ids[after[left]]))
                if new_rank is not None:
                    heapq.heappush(heap, new_rank * n + left)
    return [id_ for id_ in ids if id_ >= 0]
