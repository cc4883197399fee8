"""A vocabulary as a list of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from stemma.errors import TokenizerError


def ids_of(tokens: Sequence[str], where: str | None = None) -> dict[str, int]:
    """Token -> its place in the list.

    Args:
        tokens: the vocabulary in the order of its ids.
        where: the file it comes from, for messages.

    Raises:
        TokenizerError: if a token is listed twice.
    """
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        first, again = next((i, ids[t]) for i, t in enumerate(tokens) if ids[t] != i)
        raise TokenizerError(f"ids {first} and {again} are both {tokens[first]!r}", where=where)
    return ids
