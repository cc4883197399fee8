"""Writing token shards: streamed, hashed on the way, and renamed into place when whole."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from stemma.data.sources import Document
from stemma.data.tokens import Encoder, Ids, dtype_for, encode_document
from stemma.errors import DataError

FORMAT = "stemma token shards"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
DOCUMENTS_FILE = "documents.bin"
SHARD_TOKENS = 1 << 26


class ShardWriter:
    """Writes one directory of shards, document by document; a context manager.

    The files are written to a hidden directory beside the wanted one, which takes its place when
    the block ends without an error and is removed when it ends with one. The layout:

    - ``tokens-00000.bin``, ...: ids, little-endian, ``shard_tokens`` each (the last one fewer);
    - ``documents.bin``: pairs of little-endian int64, the first token and the first byte of each
      document, and a last pair with the totals;
    - ``manifest.json``: format, tokenizer, counts, the sha256 of each file and its own.

    Args:
        directory: must not exist.
        tokenizer: gives the ids.
        shard_tokens: how many ids a file holds.

    Raises:
        DataError: if the directory exists, no document came, or the disk is full.
    """

    def __init__(
        self, directory: str | Path, tokenizer: Encoder, *, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        if shard_tokens < 1:
            raise DataError(f"shards of {shard_tokens} tokens are not possible")
        self.directory = Path(directory)
        self.n_tokens = self.n_bytes = self.n_documents = 0
        self._tokenizer = tokenizer
        self._shard_tokens = shard_tokens
        self._shards: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = stack.enter_context(staged(self.directory))
            self._stack = stack
            with disk_errors(self.directory):
                self._documents = self._open(DOCUMENTS_FILE)
                self._shard = self._open_shard()
                self._write_offsets()
            self._stack = stack.pop_all()
        return self

    def add(self, document: Document) -> None:
        """Append one document and its end-of-text token."""
        self.append(encode_document(document, self._tokenizer))
        self.end_document(document.n_bytes)

    def append(self, ids: Ids) -> None:
        """Append ids of a document that comes in pieces; `end_document` closes it."""
        with disk_errors(self.directory):
            while ids.size:
                room = self._shard_tokens - self._shard.n_items
                if room == 0:
                    self._close_shard()
                    self._shard = self._open_shard()
                    continue
                self._shard.write(ids[:room])
                self.n_tokens += min(room, ids.size)
                ids = ids[room:]

    def end_document(self, n_bytes: int) -> None:
        """Close a document whose ids, end-of-text token included, were appended.

        Args:
            n_bytes: length of its text in UTF-8.
        """
        with disk_errors(self.directory):
            self.n_documents += 1
            self.n_bytes += n_bytes
            self._write_offsets()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def _finish(self) -> None:
        with disk_errors(self.directory):
            self._close_shard()
            documents = {"file": DOCUMENTS_FILE, "sha256": self._documents.close()}
            if self.n_tokens == 0:
                raise DataError("no documents to write", where=str(self.directory))
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "tokenizer": self._tokenizer.fingerprint,
                "vocab_size": self._tokenizer.vocab_size,
                "end_of_text": self._tokenizer.end_of_text,
                "dtype": dtype_for(self._tokenizer.vocab_size).str,
                "n_tokens": self.n_tokens,
                "n_bytes": self.n_bytes,
                "n_documents": self.n_documents,
                "shards": self._shards,
                "documents": documents,
            }
            manifest["sha256"] = manifest_digest(manifest)
            file = self._open(MANIFEST_FILE)
            file.write_bytes(json.dumps(manifest, indent=1).encode() + b"\n")
            file.close()

    def _open(self, name: str) -> _HashedFile:
        file = _HashedFile(self._folder / name)
        self._stack.callback(file.abandon)
        return file

    def _open_shard(self) -> _HashedFile:
        return self._open(f"tokens-{len(self._shards):05d}.bin")

    def _close_shard(self) -> None:
        digest = self._shard.close()
        self._shards.append(
            {"file": self._shard.path.name, "n_tokens": self._shard.n_items, "sha256": digest}
        )

    def _write_offsets(self) -> None:
        self._documents.write(np.array([self.n_tokens, self.n_bytes], dtype="<i8"))


class _HashedFile:
    """A file whose sha256 is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_items = 0
        self._file = path.open("xb")
        self._digest = sha256()

    def write(self, array: Ids | np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.write_bytes(array.tobytes())
        self.n_items += array.size

    def write_bytes(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def close(self) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Close if still open; what is buffered may not fit on the disk any more."""
        with suppress(OSError):
            self._file.close()


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's other fields in one canonical form."""
    fields = {key: value for key, value in manifest.items() if key != "sha256"}
    return sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A hidden folder beside ``directory`` that takes its name in the end, or is removed.

    Raises:
        DataError: if ``directory`` exists, or the disk refuses.
    """
    _refuse_existing(directory)
    folder = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.partial"
    with disk_errors(directory):
        folder.mkdir(parents=True)
    try:
        yield folder
        _refuse_existing(directory)
        with disk_errors(directory):
            folder.rename(directory)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, DataError) and error.where and error.where.startswith(str(folder)):
            # The user knows the name that was asked for, not the hidden one.
            where = error.where.replace(str(folder), str(directory), 1)
            raise DataError(error.what, where=where, cure=error.cure) from None
        raise


def _refuse_existing(directory: Path) -> None:
    if directory.exists():
        raise DataError(
            "exists already, and nothing is overwritten",
            where=str(directory),
            cure="Choose another directory, or remove this one first.",
        )


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the disk refuses into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            "the disk is full" if full else f"cannot be written: {error.strerror or error}",
            where=str(directory),
            cure="Free space or choose a directory on another disk; nothing was left behind."
            if full
            else None,
        ) from None
