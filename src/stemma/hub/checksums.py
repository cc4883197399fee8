"""``SHA256SUMS``: the checksums of a model directory, in the format of ``sha256sum``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stemma.errors import ModelError
from stemma.hub.download import file_sha256

NAME = "SHA256SUMS"


def write_checksums(directory: Path, names: Iterable[str]) -> None:
    """Record the sha256 of the named files."""
    lines = [f"{file_sha256(directory / name)}  {name}\n" for name in names]
    (directory / NAME).write_text("".join(lines), encoding="utf-8")


def verify_checksums(directory: Path, names: Iterable[str]) -> None:
    """Compare the files with what was recorded; a directory without a record passes.

    Args:
        directory: a model directory.
        names: the files to compare, if they are recorded.

    Raises:
        ModelError: naming the file that is missing or has changed, what was expected and found.
    """
    wanted = set(names)
    for name, expected in _recorded(directory).items():
        if name not in wanted:
            continue
        if not (directory / name).is_file():
            raise ModelError(
                f"{name!r} is missing",
                where=str(directory),
                cure=f"It is named in {NAME}: copy the directory again, as a whole.",
            )
        found = file_sha256(directory / name)
        if found != expected:
            raise ModelError(
                f"is damaged or was changed: expected sha256 {expected}, found {found}",
                where=str(directory / name),
                cure="Copy it again from where it came; if it was changed on purpose, remove its "
                f"line from {NAME}.",
            )


def verify_all(directory: Path) -> None:
    """Compare every file that was recorded.

    Raises:
        ModelError: see `verify_checksums`.
    """
    verify_checksums(directory, _recorded(directory))


def _recorded(directory: Path) -> dict[str, str]:
    """Name -> sha256."""
    record = directory / NAME
    if not record.is_file():
        return {}
    lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = (line.partition("  ") for line in lines)
    return {name: expected for expected, _, name in rows}
