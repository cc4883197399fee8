"""What decoding asks of a model that continues from a cache: the whole seam to an engine.

Three steps, each for what it makes possible:

| a model with | can be |
|---|---|
| `CachedModel` | continued, one text or several of equal length; searched with beams |
| `RaggedModel` | continued with rows of different lengths |
| `PagedModel` | batched continuously, with memory in blocks |

A pass is always ``model.hidden_states(ids, cache=cache)`` with ids ``[batch, n]``, which are added
to the cache. Rows of a ragged or paged cache that have fewer than ``n`` are padded behind with any
valid id; ``cache.expect(counts)`` before the pass says how many ids of each row are its own.
Padding is never kept and never seen by other ids; what the pass returns for it is not read.
`stemma.models.Transformer` has all three; its caches are in `stemma.nn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


class Cache(Protocol):
    """Keys and values of the positions seen so far."""

    @property
    def length(self) -> int:
        """Number of positions it holds."""

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on."""

    def select(self, rows: Sequence[int]) -> None:
        """Make row ``i`` what row ``rows[i]`` was: rows are reordered, repeated or left out."""


@runtime_checkable
class CachedModel(Protocol):
    """A model that continues from a cache, and whose head can be applied to the last position."""

    def new_cache(self, batch_size: int, *, capacity: int | None = None) -> Any:
        """An empty cache for ``batch_size`` rows and at most ``capacity`` positions."""

    def hidden_states(
        self, ids: Int[Tensor, "batch seq"], *, cache: Any = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads, for ids that follow those in the cache; adds them to it."""

    def head(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits."""


class RaggedCache(Protocol):
    """Keys and values of rows that have lengths of their own."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of positions of each row."""

    def expect(self, counts: Sequence[int]) -> None:
        """Say how many ids of each row in the next pass are no padding; all, unless called."""

    def row(self, index: int) -> Cache:
        """One row as a cache of its own: what is added to it is in this one too."""

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget all positions of each row from its length on."""

    def select(self, rows: Sequence[int]) -> None:
        """Make row ``i`` what row ``rows[i]`` was: rows are reordered, repeated or left out."""


@runtime_checkable
class RaggedModel(CachedModel, Protocol):
    """A model whose cache may have rows of different lengths."""

    def new_ragged_cache(self, batch_size: int, *, capacity: int | None = None) -> Any:
        """An empty `RaggedCache` of ``batch_size`` rows and at most ``capacity`` positions each."""


class PagedCache(Protocol):
    """Rows of a pool, for one pass."""

    def expect(self, counts: Sequence[int]) -> None:
        """As in `RaggedCache`."""


class BlockPool(Protocol):
    """Memory for the keys and values of many texts, in blocks."""

    n_blocks: int
    block_size: int

    def rows(self, tables: Sequence[Sequence[int]], lengths: Sequence[int]) -> PagedCache:
        """The cache of texts that hold ``lengths`` positions in the blocks of ``tables``."""


@runtime_checkable
class PagedModel(CachedModel, Protocol):
    """A model that keeps keys and values in blocks of a pool."""

    def new_block_pool(self, n_blocks: int, *, block_size: int = 16) -> Any:
        """A `BlockPool`, whose memory is taken at once."""
