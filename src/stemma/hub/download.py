"""One file from the network: to a partial file, compared with its checksum, renamed into place."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO

from stemma.errors import DataError

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and, where the server tells it, the bytes there are."""


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal, read block by block."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline() -> bool:
    """Whether ``STEMMA_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network."""
    forbidding = ("1", "true", "yes", "on")
    names = ("STEMMA_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").lower() in forbidding for name in names)


def download(url: str, path: Path, *, sha256: str, progress: Progress | None = None) -> None:
    """Fetch ``url`` into ``path``, which appears only when its content is right.

    Args:
        url: an http or https address.
        path: where the file is to be; its folder is made.
        sha256: what the content must have.
        progress: told after each block.

    Raises:
        DataError: if the address cannot be reached, the transfer stops early, the disk is full, or
            the checksum is another; nothing is left behind then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial_name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial"
        )
    except OSError as error:
        raise _cannot_write(path, error) from None
    partial = Path(partial_name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _transfer(url, file, path, progress)
        if found != sha256:
            raise DataError(
                f"has the wrong checksum: expected sha256 {sha256}, found {found}",
                where=url,
                cure="What is published there has changed or was damaged on its way; it was "
                "thrown away. Try again, or put the right file into the mirror.",
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        cure="Free some space, or set STEMMA_CACHE to a folder that has it and may be written.",
    )


def _transfer(url: str, file: IO[bytes], path: Path, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    done = 0
    try:
        response: HTTPResponse
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, total)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"cannot be downloaded: {error}",
            where=url,
            cure="Check the connection, or put the file into a mirror folder (STEMMA_MIRROR).",
        ) from None
    except OSError as error:
        raise _cannot_write(path, error) from None
    if total is not None and done < total:
        raise DataError(
            f"the transfer stopped after {done:,} of {total:,} bytes", where=url, cure="Try again."
        )
    return digest.hexdigest()
