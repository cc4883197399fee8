"""``checkpoint.json``: the facts of a training state and the sha256 of each of its files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemma.errors import CheckpointError

MANIFEST = "checkpoint.json"
_FORMAT = "stemma training state"
_VERSION = 1


def write_manifest(directory: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Describe the files of ``directory``, and bring them, the description and it to the disk."""
    files = {}
    for path in sorted(directory.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        _sync_file(path)
    manifest: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "step": step,
        "facts": dict(facts),
        "files": files,
    }
    manifest["sha256"] = _own_sha256(manifest)
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def check_manifest(directory: Path) -> dict[str, Any]:
    """Read the manifest and compare every file with it.

    Raises:
        CheckpointError: naming the first file that is missing, cut short or altered.
    """
    manifest = _read(directory / MANIFEST)
    for name, expected in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise CheckpointError("missing", where=str(path))
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointError(
                f"damaged: {size} bytes instead of {expected['bytes']}", where=str(path)
            )
        if _sha256(path) != expected["sha256"]:
            raise CheckpointError("damaged: its sha256 is not the recorded one", where=str(path))
    return manifest


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries, and so the renames in it, to the disk."""
    if os.name == "nt":  # Windows opens no directories, and commits renames by itself
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Whether no space, or no quota, was left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        recorded = manifest.pop("sha256")
        intact = recorded == _own_sha256(manifest)
    except FileNotFoundError:
        raise CheckpointError("missing", where=str(path)) from None
    except (ValueError, KeyError, AttributeError):
        intact = False
    if not intact:
        raise CheckpointError("damaged: its sha256 is not the recorded one", where=str(path))
    if (manifest["format"], manifest["version"]) != (_FORMAT, _VERSION):
        raise CheckpointError(
            f"of version {manifest['version']}, and this stemma reads version {_VERSION}",
            where=str(path),
        )
    return manifest


def _own_sha256(manifest: Mapping[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
