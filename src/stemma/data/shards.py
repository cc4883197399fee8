"""Token shards on disk: memory-mapped files of ids beside a manifest that can prove them whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.data.shard_writer import (
    DOCUMENTS_FILE,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_FILE,
    SHARD_TOKENS,
    ShardWriter,
    manifest_digest,
)
from stemma.data.sources import Document
from stemma.data.tokens import Encoder, Ids, check_windows, gather_rows, plain_slice
from stemma.errors import DataError

_CURE = "Prepare the data again (stemma data prepare)."


def write_shards(
    documents: Iterable[Document],
    tokenizer: Encoder,
    directory: str | Path,
    *,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenShards:
    """Encode documents into a directory of shards, streaming, and open it.

    Ids are little-endian ``uint16`` up to a vocabulary of 65,536, else ``uint32``. Each document is
    followed by the tokenizer's end-of-text token. The directory appears whole or not at all.

    Args:
        documents: read once, never held together.
        tokenizer: gives the ids.
        directory: must not exist.
        shard_tokens: how many ids a file holds; documents run on across files.

    Raises:
        DataError: if the directory exists, there is no document, or the disk is full.
    """
    with ShardWriter(directory, tokenizer, shard_tokens=shard_tokens) as writer:
        for document in documents:
            writer.add(document)
    return TokenShards(directory)


class TokenShards:
    """A directory of token shards, memory-mapped: a `TokenSource` larger than memory may hold.

    Opening checks the manifest and the size of every file; `verify` reads them all.

    Args:
        directory: as `write_shards` made it.

    Raises:
        DataError: if it is missing, of another format, or a file is missing or of a wrong size.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.manifest = _read_manifest(self.directory)
        dtype = np.dtype(self.manifest["dtype"])
        self._shards: list[Ids] = []
        for shard in self.manifest["shards"]:
            path = self._check_size(shard["file"], shard["n_tokens"] * dtype.itemsize)
            # A plain view: np.memmap's own indexing costs several microseconds more.
            self._shards.append(np.memmap(path, dtype=dtype, mode="r").view(np.ndarray))
        self._edges = np.cumsum([0, *(shard.size for shard in self._shards)])
        self._check_size(DOCUMENTS_FILE, (self.n_documents + 1) * 16)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the tokenizer that made the ids."""
        return str(self.manifest["tokenizer"])

    @property
    def vocab_size(self) -> int:
        """Number of ids of that tokenizer."""
        return int(self.manifest["vocab_size"])

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return int(self.manifest["n_documents"])

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text of all documents, without the end-of-text tokens."""
        return int(self.manifest["n_bytes"])

    @property
    def document_offsets(self) -> NDArray[np.int64]:
        """Index of each document's first token, then the number of tokens."""
        return self._documents[:, 0]

    @property
    def byte_offsets(self) -> NDArray[np.int64]:
        """UTF-8 bytes of text before each document, then `n_bytes`."""
        return self._documents[:, 1]

    @cached_property
    def _documents(self) -> NDArray[np.int64]:
        table = np.memmap(self.directory / DOCUMENTS_FILE, dtype="<i8", mode="r")
        return table.view(np.ndarray).reshape(-1, 2)

    def __len__(self) -> int:
        return int(self._edges[-1])

    def __getitem__(self, index: slice) -> Ids:
        wanted = plain_slice(index, len(self))
        if wanted.start == wanted.stop:
            return self._shards[0][:0]
        first, last = np.searchsorted(self._edges, [wanted.start, wanted.stop - 1], "right") - 1
        pieces = [
            self._shards[shard][
                max(0, wanted.start - self._edges[shard]) : wanted.stop - self._edges[shard]
            ]
            for shard in range(first, last + 1)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def gather(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """The windows ``[start : start + length]``, one a row."""
        check_windows(starts, length, len(self))
        if len(self._shards) == 1:
            return gather_rows(self._shards[0], starts, length)
        first = np.searchsorted(self._edges, starts, "right") - 1
        whole = starts + length <= self._edges[first + 1]
        rows = np.empty((starts.size, length), dtype=np.int64)
        for shard in np.unique(first[whole]):
            here = whole & (first == shard)
            rows[here] = gather_rows(self._shards[shard], starts[here] - self._edges[shard], length)
        for row in np.flatnonzero(~whole):
            rows[row] = self[int(starts[row]) : int(starts[row]) + length]
        return rows

    def verify(self) -> None:
        """Read every file and compare its sha256 with the manifest.

        Raises:
            DataError: naming the first damaged file.
        """
        for entry in [*self.manifest["shards"], self.manifest["documents"]]:
            path = self.directory / entry["file"]
            with path.open("rb") as file:
                digest = sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            if digest.hexdigest() != entry["sha256"]:
                raise DataError(
                    "damaged: its sha256 is not the manifest's", where=str(path), cure=_CURE
                )

    def check_tokenizer(self, fingerprint: str) -> None:
        """Make sure that these ids are those of the tokenizer with this fingerprint.

        Raises:
            DataError: if another tokenizer made them.
        """
        if fingerprint != self.fingerprint:
            raise DataError(
                f"these ids were made by another tokenizer ({self.fingerprint[:12]}, "
                f"not {fingerprint[:12]})",
                where=str(self.directory),
                cure="Use the tokenizer they were made with, or prepare the data again with yours.",
            )

    def _check_size(self, name: str, expected: int) -> Path:
        path = self.directory / name
        if not path.is_file():
            raise DataError("missing", where=str(path), cure=_CURE)
        if path.stat().st_size != expected:
            raise DataError(
                f"damaged: {path.stat().st_size} bytes instead of {expected}",
                where=str(path),
                cure=_CURE,
            )
        return path


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise DataError(
            f"holds no token shards (no {MANIFEST_FILE})",
            where=str(directory),
            cure="Make them with `stemma data prepare`.",
        )
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"damaged: not JSON ({error})", where=str(path), cure=_CURE) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError("is not a manifest of token shards", where=str(path))
    if manifest.get("version") != FORMAT_VERSION:
        raise DataError(
            f"format version {manifest.get('version')}, but this stemma reads {FORMAT_VERSION}",
            where=str(path),
            cure=_CURE,
        )
    if manifest.get("sha256") != manifest_digest(manifest):
        raise DataError("damaged: its sha256 is not its own", where=str(path), cure=_CURE)
    return manifest
