"""Merging a row of symbols of any length, as where a whole text is one word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.bpe.merge import Pair, merge_long_word, merge_word
from stemma.tokenizers.wordwise import CACHED_WORDS, LONG_WORD

WORTH_CUTTING = 20_000
"""Symbols of long rows after which it pays to learn where they may be cut."""


class StretchMerger:
    """Merges rows of ids.

    A long row is cut first between symbols that stand side by side in no token: no merge reaches
    over such a place. In a vocabulary where ``▁`` does nothing but begin tokens, the stretches are
    the words, and most of them have been seen before.

    Args:
        ranks: pair -> place in the list of merges.
        results: place in the list of merges -> id that the merge makes.
        symbols: gives the ids that rows are of.
    """

    def __init__(
        self,
        ranks: Mapping[Pair, int],
        results: Sequence[int],
        symbols: Callable[[], set[int]],
    ) -> None:
        self._ranks = ranks
        self._results = results
        self._symbols = symbols
        self._cache: dict[tuple[int, ...], list[int]] = {}
        self._seen = 0

    def merge(self, ids: list[int]) -> list[int]:
        """Merge the pair of lowest rank, the leftmost of several, until no pair can be merged.

        Takes time n log n.

        Args:
            ids: the row; used up.
        """
        if len(ids) <= LONG_WORD:
            return merge_word(ids, self._ranks, self._results)
        self._seen += len(ids)
        if self._seen < WORTH_CUTTING:
            return merge_long_word(ids, self._ranks, self._results)
        merged: list[int] = []
        for start, end in pairwise(self._edges(ids)):
            merged += self._merge_stretch(ids[start:end])
        return merged

    def joinable(self, left: int, right: int) -> bool:
        """Whether two symbols stand side by side in some token."""
        return (left << 32 | right) in self._joinable_pairs

    def _edges(self, ids: Sequence[int]) -> list[int]:
        """The ends of a row, and between them the places that no merge reaches over."""
        row = np.array(ids, np.int64)
        keys = row[:-1] << 32 | row[1:]
        joinable = self._joinable
        at = np.minimum(np.searchsorted(joinable, keys), max(joinable.size - 1, 0))
        apart = joinable[at] != keys if joinable.size else np.ones(keys.size, np.bool_)
        return [0, *(np.flatnonzero(apart) + 1).tolist(), len(ids)]

    def _merge_stretch(self, ids: list[int]) -> list[int]:
        if len(ids) > LONG_WORD:
            return merge_long_word(ids, self._ranks, self._results)
        key = tuple(ids)
        found = self._cache.get(key)
        if found is None:
            found = merge_word(ids, self._ranks, self._results)
            if len(self._cache) >= CACHED_WORDS:
                self._cache.clear()
            self._cache[key] = found
        return found

    @cached_property
    def _joinable(self) -> NDArray[np.int64]:
        return np.array(sorted(self._joinable_pairs), np.int64)

    @cached_property
    def _joinable_pairs(self) -> set[int]:
        """Pairs of symbols that stand side by side in some token, each as one number.

        A token's first symbols are those of the left half of each pair that makes it, its last
        those of the right half.
        """
        symbols = self._symbols()
        merges = [(*pair, self._results[rank]) for pair, rank in self._ranks.items()]
        firsts = {id_: {id_} & symbols for merge in merges for id_ in merge}
        lasts = {id_: {id_} & symbols for id_ in firsts}
        changed = True
        while changed:
            changed = False
            for left, right, new in merges:
                if not (firsts[left] <= firsts[new] and lasts[right] <= lasts[new]):
                    firsts[new] |= firsts[left]
                    lasts[new] |= lasts[right]
                    changed = True
        pairs = {(a, b) for left, right, _ in merges for a in lasts[left] for b in firsts[right]}
        return {a << 32 | b for a, b in pairs}
