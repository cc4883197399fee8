"""A text file of any size -> token shards, in little memory and on several threads."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from stemma.data.decoding import origin_of, stream_pieces, text_pieces
from stemma.data.shard_writer import SHARD_TOKENS, ShardWriter
from stemma.data.shards import TokenShards
from stemma.data.sources import SEPARATOR
from stemma.data.tokens import StreamEncoder, dtype_for
from stemma.errors import DataError

RELEASE_EVERY = 1 << 23
"""After so many tokens memory that is free goes back to the system."""


def encode_file(
    path: str | Path,
    tokenizer: StreamEncoder,
    directory: str | Path,
    *,
    threads: int | None = None,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int, int], object] | None = None,
) -> TokenShards:
    """Encode a text file into a directory of shards, as `write_shards` would its documents.

    Documents are what stands between ``<|endoftext|>``; each is encoded as it comes and never held
    as a whole, if the tokenizer knows where a text may be cut (byte-level BPE does).

    Args:
        path: UTF-8 text, which may be compressed (``.gz``, ``.xz``, ``.bz2``); ``-`` is standard
            input.
        tokenizer: gives the ids.
        directory: must not exist.
        threads: how many encode; as many as there are processors if None.
        shard_tokens: how many ids a file holds.
        progress: told the number of the document and the bytes of text done so far.

    Raises:
        DataError: if the file cannot be read, is not UTF-8, or holds no text; if the directory
            exists, or the disk is full. Nothing is left behind then.
    """
    path = Path(path)
    if {".jsonl", ".ndjson", ".parquet"} & set(path.suffixes):
        raise DataError(
            "holds documents in fields, and would be encoded with all its markup",
            where=origin_of(path),
            cure="`stemma data prepare` reads its text; encode takes plain text.",
        )
    dtype = dtype_for(tokenizer.vocab_size)
    end_of_text = tokenizer.end_of_text
    close = np.array([] if end_of_text is None else [end_of_text], dtype)
    next_release = RELEASE_EVERY
    with ShardWriter(directory, tokenizer, shard_tokens=shard_tokens) as writer:
        for number, document in enumerate(stream_pieces(text_pieces(path), SEPARATOR)):
            meter = _Meter(_without_first_newline(document) if number else document)
            if not meter.has_text:
                continue
            for ids in tokenizer.encode_chunks(meter, threads=threads):
                writer.append(ids.astype(dtype))
                if writer.n_tokens >= next_release:
                    _release_free_memory()
                    next_release = writer.n_tokens + RELEASE_EVERY
                if progress is not None:
                    progress(writer.n_documents + 1, writer.n_bytes + meter.n_bytes)
            writer.append(close)
            writer.end_document(meter.n_bytes)
        if not writer.n_documents:
            raise DataError(
                "holds no text, nothing but white space",
                where=origin_of(path),
                cure="Give a source with text in it.",
            )
    return TokenShards(directory)


def _release_free_memory() -> None:
    """Have glibc give back what is free between blocks in use: it keeps that, ever more."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


class _Meter:
    """The pieces of a document, which are counted as they are read."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self.n_bytes = 0
        self._blank: list[str] = []
        self.has_text = self._find_text()

    def _find_text(self) -> bool:
        for piece in self._pieces:
            self._blank.append(piece)
            if piece and not piece.isspace():
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        while self._blank:
            yield self._count(self._blank.pop(0))
        yield from map(self._count, self._pieces)

    def _count(self, piece: str) -> str:
        self.n_bytes += len(piece.encode())
        return piece


def _without_first_newline(pieces: Iterable[str]) -> Iterator[str]:
    """A line end right after the separator belongs to it."""
    started = False
    for piece in pieces:
        yield piece if started else piece.removeprefix("\n")
        started = started or bool(piece)
