"""One file from the network: to a partial file that is gone on with, proved, renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from stemma.errors import DataError, reason

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.0

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


def download(
    url: str, path: Path, *, sha256: str | None = None, progress: Progress | None = None
) -> None:
    """Fetch ``url`` into ``path``, which appears only when it is whole and its content is right.

    What has come stays beside it until then, and the next call goes on there: if the server says
    that it still has the same file, or ``sha256`` will tell. Two processes that fetch one file take
    turns, and the second finds it done.

    Args:
        url: an http or https address.
        path: where the file is to be; its folder is made.
        sha256: what the content must have; None: whatever comes is taken.
        progress: told after each block.

    Raises:
        DataError: if the address cannot be reached, the transfer stops early several times in a
            row, the disk is full, or the checksum is another; what has the wrong checksum is not
            kept.
    """
    with being_written(path):
        if path.is_file() and sha256 is not None and file_sha256(path) == sha256:
            return
        partial = _Partial(url, path)
        resumed = _transfer(partial, sha256, progress)
        found = file_sha256(partial.file) if sha256 else None
        if found != sha256 and resumed:  # what was there belonged to something else
            partial.remove()
            _transfer(partial, sha256, progress)
            found = file_sha256(partial.file)
        if found != sha256:
            partial.remove()
            raise DataError(
                f"has the wrong checksum: expected sha256 {sha256}, found {found}",
                where=url,
                cure="What is published there has changed or was damaged on its way; it was "
                "thrown away. Try again, or put the right file into the mirror.",
            )
        partial.file.replace(path)
        partial.remove()


@contextmanager
def being_written(path: Path) -> Iterator[None]:
    """Make the folder of ``path`` and keep other processes from writing that file.

    Raises:
        DataError: if it cannot be written, for want of space or of permission.
    """
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_locks() / name):
            yield
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            cure="Free some space, or name a folder that may be written: with --to, or for the "
            "cache with STEMMA_CACHE.",
        ) from None


def _locks() -> Path:
    """A folder for locks, which cannot be removed safely: not beside what is locked."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"stemma-locks-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class _Partial:
    """What has come of a file, and which version of it that is.

    Args:
        url: where it comes from.
        path: what it will be.
    """

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        self.file = path.with_name(f".{path.name}.partial")
        self._about = path.with_name(f".{path.name}.partial.json")

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    def version(self) -> str | None:
        """The server's mark of the version that has come in part; empty if it gave none."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            return str(about["version"]) if about["url"] == self.url else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def begin(self, version: str) -> None:
        about = {"url": self.url, "version": version}
        self._about.write_text(json.dumps(about), encoding="utf-8")
        self.file.write_bytes(b"")

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)


class _Stopped(NamedTuple):
    """Why a transfer ended early."""

    why: str
    again: bool


def _transfer(partial: _Partial, sha256: str | None, progress: Progress | None) -> bool:
    """Bring the partial file to its end; returns whether it was gone on with."""
    began, tries = partial.size, 0
    while True:
        before = partial.size
        stopped = _attempt(partial, sha256, progress)
        if stopped is None:
            return began > 0
        tries = 1 if partial.size > before else tries + 1
        if not stopped.again or tries == _ATTEMPTS:
            kept = f" {partial.size:,} bytes are kept: the next try goes on there."
            raise DataError(
                stopped.why,
                where=partial.url,
                cure="Check the connection, or put the file into a mirror folder (STEMMA_MIRROR)."
                + (kept if partial.size else ""),
            )
        time.sleep(_PAUSE_SECONDS)


def _attempt(partial: _Partial, sha256: str | None, progress: Progress | None) -> _Stopped | None:
    """One request; None if the file is whole after it."""
    request = urllib.request.Request(partial.url, headers={"Accept-Encoding": "identity"})
    have, version = partial.size, partial.version()
    if have and version is not None and (version or sha256):
        request.add_header("Range", f"bytes={have}-")
        if version:
            request.add_header("If-Range", version)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # more has come than there is now
            partial.remove()
        passing = error.code in (408, 416, 429) or error.code >= 500
        return _Stopped(f"cannot be downloaded: {error}", again=passing)
    except (OSError, HTTPException) as error:
        return _Stopped(f"cannot be downloaded: {reason(error)}", again=False)
    with response:
        return _receive(response, partial, progress)


def _receive(
    response: HTTPResponse, partial: _Partial, progress: Progress | None
) -> _Stopped | None:
    length = response.headers.get("Content-Length", "")
    rest = int(length) if length.isdigit() else None
    if response.status != 206:
        partial.begin(_version(response))
    elif _first_byte(response) != partial.size:
        partial.remove()
        return _Stopped("the server sent another part than was asked for", again=True)
    done = partial.size
    total = None if rest is None else done + rest
    _check_space(partial.path, rest)
    with partial.file.open("ab") as file:
        for block in _blocks(response):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total)
    if total is not None and done < total:
        return _Stopped(f"the transfer stopped after {done:,} of {total:,} bytes", again=True)
    return None


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """What comes, until it ends in whichever way: the count tells whether it was all."""
    try:
        while block := response.read1(_BLOCK):
            yield block
    except (OSError, HTTPException):
        return


def _version(response: HTTPResponse) -> str:
    """A mark that changes with every byte of the file, or nothing."""
    tag = str(response.headers.get("ETag", ""))
    return "" if tag.startswith("W/") else tag


def _first_byte(response: HTTPResponse) -> int | None:
    """Where a part begins: ``Content-Range: bytes 100-199/200``."""
    first = str(response.headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _check_space(path: Path, n_bytes: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if n_bytes is not None and n_bytes > free:
        raise DataError(
            f"cannot be written: {n_bytes:,} bytes are to come, and {free:,} are free",
            where=str(path),
            cure="Free some space, or set STEMMA_CACHE to a folder that has it.",
        )
