"""A list of merges as an array of ids: hundreds of thousands are checked in one go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import add

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge import Pair
from stemma.tokenizers.substrings import Substrings

Rows = NDArray[np.int64]
"""The two ids of each merge, in the order learned."""


def as_rows(merges: Sequence[Pair] | Rows) -> Rows:
    """Pairs of ids as an array.

    Raises:
        TokenizerError: if these are no pairs of ids.
    """
    try:
        rows = np.asarray(merges, np.int64)
    except (OverflowError, TypeError, ValueError):
        rows = np.zeros(1, np.int64)
    if rows.size and rows.shape != (len(rows), 2):
        raise TokenizerError("merges must be pairs of ids")
    return rows.reshape(-1, 2)


def as_pairs(rows: Rows) -> list[Pair]:
    """The opposite of `as_rows`."""
    lefts, rights = rows.T.tolist()
    return list(zip(lefts, rights, strict=True))


def results_of(
    rows: Rows, spellings: Sequence[bytes], ids: dict[bytes, int], added: Collection[int]
) -> Sequence[int]:
    """The id that each merge makes; an added token that a merge makes is a learned one as well.

    Args:
        rows: the merges.
        spellings: the bytes of each id.
        ids: bytes -> id of the learned tokens; added tokens that a merge makes are put in.
        added: the ids of the added tokens.

    Raises:
        TokenizerError: if a merge makes no token, or is listed twice.
    """
    if not rows.size:
        return ()
    if not 0 <= rows.min() <= rows.max() < len(spellings):
        raise _makes_nothing(rows, spellings)
    first = ids.get(spellings[rows[0, 0]] + spellings[rows[0, 1]], len(spellings))
    made = range(first, first + len(rows))
    # As nearly every file has it: each merge makes the next id, and so none can stand twice.
    if not any(id_ in made for id_ in added) and _make_in_order(rows, spellings, first):
        return made
    if len(set(as_pairs(rows))) != len(rows):
        raise TokenizerError("a merge is listed twice")
    lefts, rights = (map(spellings.__getitem__, half) for half in rows.T.tolist())
    joined = list(map(add, lefts, rights))
    if not ids.keys() >= set(joined):
        every = {spelling: i for i, spelling in enumerate(spellings) if spelling}
        if not every.keys() >= set(joined):
            raise _makes_nothing(rows, spellings)
        ids |= {spelling: every[spelling] for spelling in joined if spelling not in ids}
    return list(map(ids.__getitem__, joined))


def _make_in_order(rows: Rows, spellings: Sequence[bytes], first: int) -> bool:
    """Whether the merges make ``first`` and the ids that follow it, one after another."""
    if first + len(rows) > len(spellings):
        return False
    tokens = Substrings.joined(spellings)
    left, right = tokens.some(rows[:, 0]), tokens.some(rows[:, 1])
    made = tokens.some(slice(first, first + len(rows)))
    if not (left.sizes.all() and right.sizes.all()):
        return False
    beginning = Substrings(made.data, made.starts, left.sizes)
    rest = Substrings(made.data, made.starts + left.sizes, made.sizes - left.sizes)
    return left.same_as(beginning) and right.same_as(rest)


def _makes_nothing(rows: Rows, spellings: Sequence[bytes]) -> TokenizerError:
    tokens = {*spellings} - {b""}

    def makes(pair: Pair) -> bool:
        inside = 0 <= min(pair) <= max(pair) < len(spellings)
        return inside and spellings[pair[0]] + spellings[pair[1]] in tokens

    wrong = next(pair for pair in as_pairs(rows) if not makes(pair))
    return TokenizerError(f"the merge of ids {wrong} makes no token of the vocabulary")
