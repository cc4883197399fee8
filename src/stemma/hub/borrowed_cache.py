"""The cache of `transformers`, for a model of ours."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor

from stemma.nn import Cache

_FAR = 2**30


class BorrowedCache(Cache):
    """A cache of theirs in the words of ours.

    Args:
        theirs: holds the keys and values.
        text: ``[batch, seq]``, 0 where a position, old or new, is padding; None: nowhere.
        device: of the ids.
    """

    def __init__(
        self, theirs: transformers.Cache, text: Tensor | None, device: torch.device
    ) -> None:
        self._theirs = theirs
        self._device = device
        self._places: Tensor | None = None
        if text is not None:
            places = text.long().cumsum(-1) - 1
            self._places = places.masked_fill(text == 0, _FAR)

    @property
    def length(self) -> int:
        """Number of positions it holds, padding included."""
        return int(self._theirs.get_seq_length())

    def end(self, n: int) -> int:
        """The same once ``n`` more are in."""
        return self.length + n

    def has_room(self, n: int) -> bool:
        """Theirs grows."""
        return True

    def positions(self, n: int) -> Tensor:
        """Where the new ids stand."""
        if self._places is None:
            return torch.arange(self.length, self.end(n), device=self._device)
        new = self._places[:, -n:]
        return new.masked_fill(new == _FAR, 0)

    def key_positions(self, n: int, device: torch.device) -> Tensor:
        """Where all stand; padding is later than anything, so that nothing sees it."""
        return super().key_positions(n, device) if self._places is None else self._places

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Hand them on, and get all."""
        found: tuple[Tensor, Tensor] = self._theirs.update(keys, values, layer)
        return found

    def advance(self, n: int) -> None:
        """Nothing to do: theirs counts by itself."""
