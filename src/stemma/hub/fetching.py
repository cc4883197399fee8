"""Have what a name stands for on this machine: from the catalog, the Hub, an address, a path."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stemma.errors import DataError, TokenizerError
from stemma.hub.catalog import cache_directory, catalog, resolve, roots, suggestion
from stemma.hub.download import Progress, being_written, download, file_sha256, is_offline
from stemma.hub.huggingface import MODEL_FILES, repository
from stemma.hub.opening import GGUF, is_meant_as_path, of_the_hub

_URL = re.compile(r"https?://", re.IGNORECASE)
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True)
class Pulled:
    """What was asked for, and where it is.

    Attributes:
        path: a file, or a directory.
        files: each file's path and its sha256.
        n_bytes: of all files.
        licence: as its source states it, if it does.
        kind: what the catalog calls it; None for what the catalog does not have.
    """

    path: Path
    files: dict[Path, str]
    n_bytes: int
    licence: str | None
    kind: str | None


def pull(
    name: str,
    *,
    to: Path | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch what ``name`` stands for, unless it is here, and say where it is.

    What exists as a path is a path; then come the catalog's names, addresses (``https://...``) and
    repositories of the Hugging Face Hub (``owner/repo[@revision]``).

    Args:
        name: as above.
        to: a directory to put the files into; the cache by default.
        sha256: what a single file must have; the catalog has its own.
        progress: told while a file comes.

    Raises:
        DataError: if the name stands for nothing, it cannot be fetched, a checksum is another, or
            another file is in the way at ``to``.
        ModelError: if a repository cannot be had.
    """
    kind, licence = None, None
    sha256 = sha256.lower() if sha256 else None
    if (path := Path(name).expanduser()).exists():
        path = path.resolve()
    elif _URL.match(name):
        path = _from_address(name, sha256, progress)
    elif (entry := catalog().get(name) or catalog().get(name.partition("/")[0])) is not None:
        path, kind, licence = resolve(name, progress=progress), entry.kind, entry.licence
    elif "://" in name:
        raise DataError(
            "is no address that can be fetched", where=name, cure="https:// and http:// can be."
        )
    elif is_meant_as_path(path):
        raise DataError("there is no such file or directory", where=str(path))
    elif named := repository(name):
        path = of_the_hub(*named, MODEL_FILES)
    else:
        raise DataError(
            f"no path, no address and nothing in the catalog is called {name!r}",
            cure=f"{suggestion(name, list(catalog()))} A repository of the Hub is owner/repo.",
        )
    if kind and path.is_dir():
        files = [path / file for file in catalog()[name].files]
    else:
        files = _files(path)
    if sha256 is not None:
        _check(path, files, sha256)
    if to is not None:
        path, files = _copied(path, files, to)
    return Pulled(
        path=path,
        files={file: file_sha256(file) for file in files},
        n_bytes=sum(file.stat().st_size for file in files),
        licence=licence or licence_of(path),
        kind=kind,
    )


def licence_of(path: Path) -> str | None:
    """What a model card or a GGUF file says of the licence."""
    from stemma.tokenizers.formats.gguf_metadata import read_metadata

    if path.is_file() and path.suffix.lower() == GGUF:
        try:
            found = read_metadata(path, lambda name: name == "general.license")
        except TokenizerError:
            return None
        return str(found["general.license"]) if found.get("general.license") else None
    card = (path if path.is_dir() else path.parent) / "README.md"
    if not card.is_file():
        return None
    stated = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")[:2000])
    return stated[1] if stated else None


def _from_address(url: str, sha256: str | None, progress: Progress | None) -> Path:
    name = unquote(Path(urlsplit(url).path).name)
    if not re.fullmatch(r"[\w.+-][\w.+ -]*", name) or name in (".", ".."):
        raise DataError("names no file", where=url, cure="Give the address of one file.")
    folder = Path("urls") / hashlib.sha256(url.encode()).hexdigest()[:12]
    for root in roots():
        if (root / folder / name).is_file():
            return root / folder / name
    if is_offline():
        raise DataError(
            "is not here, and the network is switched off",
            where=url,
            cure="Unset STEMMA_OFFLINE and HF_HUB_OFFLINE.",
        )
    path = cache_directory() / folder / name
    download(url, path, sha256=sha256, progress=progress)
    return path


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != ".")


def _check(path: Path, files: list[Path], sha256: str) -> None:
    if len(files) != 1:
        raise DataError(f"has {len(files)} files, and one sha256 was given", where=str(path))
    if (found := file_sha256(files[0])) != sha256:
        raise DataError(
            f"has the wrong checksum: expected sha256 {sha256}, found {found}",
            where=str(files[0]),
            cure="Remove it, so that it is fetched again, or correct the checksum.",
        )


def _copied(path: Path, files: list[Path], to: Path) -> tuple[Path, list[Path]]:
    """Copies in a directory; a file that is there already must be the same."""
    root = path.parent if path.is_file() else path
    places = [to / file.relative_to(root) for file in files]
    for file, place in zip(files, places, strict=True):
        if place.exists():
            if not place.is_file() or file_sha256(place) != file_sha256(file):
                raise DataError(
                    "another file is here already, and nothing is overwritten",
                    where=str(place),
                    cure="Choose another directory, or remove it.",
                )
            continue
        with being_written(place):
            partial = place.with_name(f".{place.name}.partial")
            shutil.copyfile(file, partial)
            partial.replace(place)
    return (places[0] if path.is_file() else to), places
