"""The tokens to be scored, from whatever holds them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import DataError


class TokenSource(Protocol):
    """Tokens in a row, read by slices: an array, or shards on disk."""

    def __len__(self) -> int:
        """Number of tokens."""

    def __getitem__(self, part: slice, /) -> Any:
        """Some of the tokens, as an array."""


Tokens = TokenSource | Int[Tensor, " n_tokens"]


class Reader:
    """A row of tokens, led by ``start_token`` if there is one."""

    def __init__(self, tokens: Tokens, start_token: int | None) -> None:
        if isinstance(tokens, Tensor):
            tokens = tokens.detach().cpu().numpy()
        elif isinstance(tokens, list | tuple):
            tokens = np.asarray(tokens)
        n_dimensions = getattr(tokens, "ndim", 1)
        if n_dimensions != 1:
            raise DataError(f"tokens must be one row of ids, not {n_dimensions}-dimensional")
        if len(tokens) == 0:
            raise DataError("there is no token to score", cure="Give a text that is not empty.")
        self._tokens = tokens
        self._lead = [] if start_token is None else [start_token]

    def __len__(self) -> int:
        return len(self._lead) + len(self._tokens)

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens ``start`` .. ``stop - 1``, the lead being token 0."""
        n = len(self._lead)
        body = np.asarray(self._tokens[max(start - n, 0) : max(stop - n, 0)], dtype=np.int64)
        return np.concatenate([np.array(self._lead[start:stop], dtype=np.int64), body])


def bytes_of(tokens: Tokens, n_bytes: int | None) -> int:
    """``n_bytes``, or what the source of the tokens knows of it.

    Raises:
        DataError: if neither says it, or it is negative.
    """
    found = getattr(tokens, "n_bytes", 0) if n_bytes is None else n_bytes
    if not found:
        raise DataError(
            "the number of bytes of the text is not known",
            cure="Pass n_bytes=len(text.encode()): tokens alone give no bits per byte.",
        )
    if found < 0:
        raise DataError(f"n_bytes = {found} is negative")
    return int(found)
