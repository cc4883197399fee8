"""A sequence of token ids with its documents: the one interface of memory and disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stemma.data.sources import Document
from stemma.errors import DataError

Ids = NDArray[np.unsignedinteger[Any]]


class Encoder(Protocol):
    """What this package asks of a tokenizer; every `stemma.tokenizers.Tokenizer` satisfies it."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    def end_of_text(self) -> int | None:
        """Id of ``<|endoftext|>``, if there is one."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the ids."""

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text, in which special tokens are plain text."""


class StreamEncoder(Encoder, Protocol):
    """An encoder of texts that come in pieces."""

    def encode_chunks(
        self, chunks: Iterable[str], *, threads: int | None = 1
    ) -> Iterator[NDArray[np.int32]]:
        """The ids of the pieces' whole, a stretch at a time."""


@runtime_checkable
class TokenSource(Protocol):
    """A corpus as ids: documents one after another, each closed by its end-of-text token.

    `n_bytes` counts the UTF-8 bytes of the texts. The end-of-text tokens are counted in ``len``
    and not in `n_bytes`: predicting where a text ends is part of its cost, its mark is no text.
    Bits per byte is then the loss over all tokens, in bits, divided by `n_bytes`.
    """

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text of all documents."""

    @property
    def document_offsets(self) -> NDArray[np.int64]:
        """Index of each document's first token, then the number of tokens: n_documents + 1."""

    @property
    def byte_offsets(self) -> NDArray[np.int64]:
        """UTF-8 bytes of text before each document, then `n_bytes`: n_documents + 1."""

    def __len__(self) -> int:
        """Number of tokens."""

    def __getitem__(self, index: slice) -> Ids:
        """The ids ``[start:stop]``."""

    def gather(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """The windows ``[start : start + length]``, one a row."""


class TokenArray:
    """Token ids in memory, for data that needs no disk.

    Args:
        ids: the ids, in one dimension.
        document_offsets: start of each document and the end; one document by default.
        byte_offsets: bytes of text before each document and in all; unknown (0) by default.

    Raises:
        DataError: if there is no id, an id is negative, or the offsets do not fit the ids.
    """

    def __init__(
        self,
        ids: Sequence[int] | NDArray[Any],
        document_offsets: Sequence[int] | NDArray[np.int64] | None = None,
        byte_offsets: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        array = np.asarray(ids)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
            raise DataError(
                f"token ids of shape {array.shape} and type {array.dtype}, "
                "but a non-empty row of integers is needed"
            )
        if array.min() < 0:
            raise DataError(f"token id {array.min()} is negative")
        self._ids: Ids = array.astype(dtype_for(int(array.max()) + 1))
        offsets = [0, array.size] if document_offsets is None else document_offsets
        self.document_offsets = np.asarray(offsets, dtype=np.int64)
        unknown = np.zeros_like(self.document_offsets)
        self.byte_offsets = unknown if byte_offsets is None else np.asarray(byte_offsets, np.int64)
        check_offsets(self.document_offsets, self.byte_offsets, array.size, "TokenArray")

    @classmethod
    def encode(cls, documents: Iterable[Document], tokenizer: Encoder) -> TokenArray:
        """Encode documents exactly as `write_shards` does, without a disk."""
        pieces: list[Ids] = []
        lengths, sizes = [0], [0]
        for document in documents:
            pieces.append(encode_document(document, tokenizer))
            lengths.append(pieces[-1].size)
            sizes.append(document.n_bytes)
        if not pieces:
            raise DataError("no documents to encode")
        return cls(np.concatenate(pieces), np.cumsum(lengths), np.cumsum(sizes))

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text of all documents."""
        return int(self.byte_offsets[-1])

    def __len__(self) -> int:
        return int(self._ids.size)

    def __getitem__(self, index: slice) -> Ids:
        return self._ids[plain_slice(index, len(self))]

    def gather(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """The windows ``[start : start + length]``, one a row."""
        check_windows(starts, length, len(self))
        return gather_rows(self._ids, starts, length)


def encode_document(document: Document, tokenizer: Encoder) -> Ids:
    """Ids of a document and its end-of-text token (if the tokenizer has one), in their dtype."""
    ids = np.asarray(tokenizer.encode(document.text))
    if tokenizer.end_of_text is not None:
        ids = np.append(ids, tokenizer.end_of_text)
    if ids.size and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
        raise DataError(
            f"the tokenizer gave ids from {ids.min()} to {ids.max()}, "
            f"outside its vocabulary of {tokenizer.vocab_size}",
            where=document.origin,
        )
    return ids.astype(dtype_for(tokenizer.vocab_size))


def dtype_for(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest little-endian type that holds every id: two bytes up to 65,536 ids."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def gather_rows(ids: Ids, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Copy the windows out of one array: a strided view indexed once."""
    windows = np.lib.stride_tricks.sliding_window_view(ids, length)
    return windows[starts].astype(np.int64)


def plain_slice(index: slice, n: int) -> slice:
    """The slice with its ends resolved; it must go forward one by one."""
    start, stop, step = index.indices(n)
    if step != 1:
        raise DataError(f"tokens are read in order: a step of {step} is not supported")
    return slice(start, max(start, stop))


def check_windows(starts: NDArray[np.int64], length: int, n: int) -> None:
    """Refuse windows that leave the corpus: numpy would wrap or cut them silently."""
    if length < 1 or (starts.size and (starts.min() < 0 or starts.max() + length > n)):
        raise DataError(
            f"windows of {length} tokens from {starts.tolist()[:8]} leave the corpus of {n} tokens"
        )


def check_offsets(
    documents: NDArray[np.int64], sizes: NDArray[np.int64], n_tokens: int, where: str
) -> None:
    """Refuse offsets that do not rise from 0 to the number of tokens."""
    rising = documents.ndim == 1 and documents.size >= 2 and bool((np.diff(documents) >= 0).all())
    if not rising or documents[0] != 0 or documents[-1] != n_tokens:
        raise DataError(f"document offsets do not rise from 0 to {n_tokens}", where=where)
    if sizes.shape != documents.shape or (np.diff(sizes) < 0).any():
        raise DataError("byte offsets do not rise beside the document offsets", where=where)
