"""Windows of a token sequence: what a model sees at once, and what it is to predict."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stemma.data.tokens import TokenSource
from stemma.errors import ConfigError, DataError

IGNORE_INDEX = -100


class WindowRows(NamedTuple):
    """Some windows, one a row: ids, labels and document ids of shape (n, context_length), int64.

    ``labels[i, t]`` is the id that follows ``ids[i, t]``, or `IGNORE_INDEX` where nothing is to be
    predicted. ``document_ids`` is None where attention may see the whole window.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    document_ids: NDArray[np.int64] | None


class Windows(Protocol):
    """A fixed number of windows, read by index; what `Batches` draws from."""

    @property
    def context_length(self) -> int:
        """Positions of a window."""

    def __len__(self) -> int:
        """Number of windows, the same in every epoch."""

    def rows(self, indices: NDArray[np.int64], epoch: int = 0) -> WindowRows:
        """The windows of these indices in this epoch, a pure function of both."""


class SlidingWindows:
    """Windows at every ``stride``-th token, whatever documents they meet in.

    Window k reads the ids ``[k*stride : k*stride + context_length]`` and predicts those one
    further on. With ``stride == context_length`` every token is predicted once; with a smaller
    one, windows overlap (the loader of Raschka 2024, "Build a Large Language Model (From
    Scratch)", chapter 2). The tail that fills no window is left out: see `n_left_out`.

    With ``phase_seed``, the windows of each epoch start at an offset of their own, so that over the
    epochs the cuts fall everywhere and no tail is always left out. The offset is a pure function of
    (phase_seed, epoch). The number of windows is the same in every epoch, at most one fewer than
    without; the offsets are all those (at least ``stride``) from which so many windows fit.

    Args:
        tokens: the corpus.
        context_length: positions of a window.
        stride: from one window's start to the next one's; ``context_length`` by default.
        phase_seed: shifts each epoch's windows; not at all by default.

    Raises:
        ConfigError: if a length is not positive.
        DataError: if the corpus is shorter than one window and the token after it.
    """

    def __init__(
        self,
        tokens: TokenSource,
        context_length: int,
        stride: int | None = None,
        *,
        phase_seed: int | None = None,
    ) -> None:
        self.tokens = tokens
        self.context_length = _positive(context_length, "context_length")
        self.stride = _positive(context_length if stride is None else stride, "stride")
        self.phase_seed = phase_seed
        self._last_start = len(tokens) - 1 - context_length
        if self._last_start < 0:
            raise DataError(
                f"{len(tokens)} tokens are too few: a window of {context_length} "
                f"needs {context_length + 1}",
                cure="Give more text, or choose a shorter context_length.",
            )
        first_starts = 1 if phase_seed is None else min(self.stride, self._last_start + 1)
        self._n_windows = (self._last_start - (first_starts - 1)) // self.stride + 1

    def __len__(self) -> int:
        return self._n_windows

    @property
    def n_left_out(self) -> int:
        """Tokens that no window of an epoch predicts, the very first token aside."""
        covered = (len(self) - 1) * self.stride + self.context_length
        gaps = (len(self) - 1) * max(0, self.stride - self.context_length)
        return len(self.tokens) - 1 - covered + gaps

    def __getitem__(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Input and target ids of one window of the first epoch."""
        rows = self.rows(np.array([index]))
        return rows.ids[0], rows.labels[0]

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        return (self[index] for index in range(len(self)))

    def phase(self, epoch: int) -> int:
        """The token at which the epoch's first window starts."""
        if self.phase_seed is None:
            return 0
        n_phases = self._last_start - (len(self) - 1) * self.stride + 1
        digest = blake2b(f"stemma phase 1/{self.phase_seed}/{epoch}".encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "little") % n_phases

    def rows(self, indices: NDArray[np.int64], epoch: int = 0) -> WindowRows:
        """Windows by index; labels are the ids one further on, document ids are None."""
        _check_indices(indices, len(self))
        starts = self.phase(epoch) + indices * self.stride
        rows = self.tokens.gather(starts, self.context_length + 1)
        return WindowRows(rows[:, :-1], rows[:, 1:], None)


class PackedDocuments:
    """Documents laid end to end and cut every ``context_length`` tokens, each kept to itself.

    ``document_ids`` number the documents of a window from 0, for an attention that does not cross
    them; a position whose next token belongs to another document has the label `IGNORE_INDEX`, so
    a document's first token is never predicted from the one before it. No token is left out: the
    last window is filled with its last id, under a document id of its own, without labels.

    Args:
        tokens: the corpus, whose documents each end with their end-of-text token.
        context_length: positions of a window.

    Raises:
        ConfigError: if the length is not positive.
        DataError: if the corpus has fewer than two tokens.
    """

    def __init__(self, tokens: TokenSource, context_length: int) -> None:
        self.tokens = tokens
        self.context_length = _positive(context_length, "context_length")
        if len(tokens) < 2:
            raise DataError("one token is too few: there is nothing to predict")

    def __len__(self) -> int:
        return (len(self.tokens) - 2) // self.context_length + 1

    def rows(self, indices: NDArray[np.int64], epoch: int = 0) -> WindowRows:
        """Windows by index, the same in every epoch."""
        _check_indices(indices, len(self))
        last = len(self.tokens) - 1
        positions = indices[:, None] * self.context_length + np.arange(self.context_length + 1)
        real = positions <= last
        positions = np.minimum(positions, last)
        # The last window is read from as far back as it needs to be whole.
        length = min(self.context_length + 1, last + 1)
        starts = np.minimum(positions[:, 0], last + 1 - length)
        read = self.tokens.gather(starts, length)
        ids = np.take_along_axis(read, positions - starts[:, None], axis=1)
        documents = self._documents_at(positions)
        documents[~real] = documents.max(initial=0) + 1
        same = real[:, 1:] & (documents[:, 1:] == documents[:, :-1])
        labels = np.where(same, ids[:, 1:], IGNORE_INDEX)
        return WindowRows(ids[:, :-1], labels, documents[:, :-1] - documents[:, :1])

    def _documents_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        offsets = self.tokens.document_offsets
        return np.searchsorted(offsets, positions, side="right").astype(np.int64) - 1


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise ConfigError(f"{name} = {value} is not positive")
    return value


def _check_indices(indices: NDArray[np.int64], n: int) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < n:
        raise DataError(f"window {indices.min()} or {indices.max()} is not in 0 .. {n - 1}")
