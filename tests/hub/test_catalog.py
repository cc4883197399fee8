from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from stemma.errors import ConfigError, DataError
from stemma.hub import resolve
from stemma.hub.catalog import Catalog, Entry, cache_directory, catalog

MIRROR = os.environ.get("STEMMA_MIRROR", "")
ROMEO = b"O Romeo, Romeo, wherefore art thou Romeo?\n"
ROMEO_SHA256 = hashlib.sha256(ROMEO).hexdigest()


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("STEMMA_MIRROR", "STEMMA_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


class BreaksOff(BaseHTTPRequestHandler):
    """Promises a hundred bytes and sends ten."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"0123456789")


@pytest.fixture
def server(served: tuple[Path, str]) -> str:
    folder, url = served
    (folder / "romeo.txt").write_bytes(ROMEO)
    return url


def entry(url: str | None = None, sha256: str = ROMEO_SHA256, **changes: object) -> Catalog:
    values = {
        "kind": "text",
        "description": "a line",
        "licence": "public domain",
        "folder": "text",
        "files": {"romeo.txt": {"sha256": sha256, "url": url}},
    }
    return {"romeo": Entry.parse({**values, **changes})}


def test_a_name_is_downloaded_once_and_then_found_in_the_cache(server: str) -> None:
    seen: list[tuple[int, int | None]] = []
    entries = entry(f"{server}/romeo.txt")
    path = resolve("romeo", entries=entries, progress=lambda *done: seen.append(done))
    assert path == cache_directory() / "text" / "romeo.txt"
    assert path.read_bytes() == ROMEO
    assert seen == [(len(ROMEO), len(ROMEO))]
    seen.clear()
    assert resolve("romeo", entries=entries, progress=lambda *done: seen.append(done)) == path
    assert not seen


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(server: str) -> None:
    expected = "0" * 64
    with pytest.raises(DataError) as caught:
        resolve("romeo", entries=entry(f"{server}/romeo.txt", sha256=expected))
    assert expected in str(caught.value)
    assert ROMEO_SHA256 in str(caught.value)
    assert list((cache_directory() / "text").iterdir()) == []


def test_a_download_that_breaks_off_is_refused(
    serve: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemma.hub.download._PAUSE_SECONDS", 0.0)
    with serve(BreaksOff) as url, pytest.raises(DataError, match="10 of 100 bytes"):
        resolve("romeo", entries=entry(f"{url}/romeo.txt"))
    assert not (cache_directory() / "text" / "romeo.txt").exists()


def test_an_address_that_does_not_answer_is_named(server: str) -> None:
    with pytest.raises(DataError, match=r"(?s)nothing\.txt: cannot be downloaded.*404.*MIRROR"):
        resolve("romeo", entries=entry(f"{server}/nothing.txt"))


def test_the_address_of_a_repository_follows_from_its_revision(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "served" / "owner" / "repo" / "resolve" / "abc123"
    place.mkdir(parents=True)
    (place / "romeo.txt").write_bytes(ROMEO)
    monkeypatch.setenv("HF_ENDPOINT", server)
    path = resolve("romeo", entries=entry(repo="owner/repo", revision="abc123"))
    assert path.read_bytes() == ROMEO


def test_the_mirror_comes_before_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMMA_MIRROR", str(tmp_path / "mirror"))
    file = tmp_path / "mirror" / "text" / "romeo.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(ROMEO)
    assert resolve("romeo", entries=entry()) == file
    assert not cache_directory().exists()
    file.write_bytes(ROMEO.replace(b"Romeo", b"Julia", 1))
    with pytest.raises(DataError, match=f"(?s)wrong checksum.*{ROMEO_SHA256}.*remove it"):
        resolve("romeo", entries=entry())


def test_the_cache_comes_before_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_MIRROR", str(tmp_path / "mirror"))
    for root in (tmp_path / "mirror", cache_directory()):
        (root / "text").mkdir(parents=True)
        (root / "text" / "romeo.txt").write_bytes(ROMEO)
    assert resolve("romeo", entries=entry()) == cache_directory() / "text" / "romeo.txt"


def test_a_file_without_an_address_belongs_into_the_mirror() -> None:
    with pytest.raises(DataError, match=rf"(?s)no public address.*text/romeo\.txt.*{ROMEO_SHA256}"):
        resolve("romeo", entries=entry())


@pytest.mark.parametrize("switch", ["STEMMA_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_fetched(
    server: str, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(DataError, match="network is switched off"):
        resolve("romeo", entries=entry(f"{server}/romeo.txt"))


def test_one_file_of_several(server: str) -> None:
    files = {name: {"sha256": ROMEO_SHA256, "url": f"{server}/romeo.txt"} for name in ("a", "b/c")}
    entries = entry(files=files)
    assert resolve("romeo/b/c", entries=entries) == cache_directory() / "text" / "b" / "c"
    assert not (cache_directory() / "text" / "a").exists()
    assert resolve("romeo", entries=entries) == cache_directory() / "text"
    assert (cache_directory() / "text" / "a").exists()
    with pytest.raises(DataError, match="Did you mean 'romeo/a'"):
        resolve("romeo/aa", entries=entries)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'tinyshakespeare'"):
        resolve("tiny-shakespeare")
    with pytest.raises(DataError, match="Did you mean 'stories15M'"):
        resolve("stories15m")
    with pytest.raises(DataError, match=r"It has: .*gpt2.*wikitext-2"):
        resolve("?")


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"(?s)cannot be written.*STEMMA_CACHE"):
        resolve("romeo", entries=entry(f"{server}/romeo.txt"))


def test_a_repository_without_a_revision_is_refused() -> None:
    with pytest.raises(ConfigError, match="belong together"):
        entry(repo="owner/repo")


def test_every_entry_is_whole() -> None:
    for name, each in catalog().items():
        assert each.description, name
        assert each.licence, name
        for file in each.files:
            assert not file.startswith("/"), name
            assert ".." not in file, name


def test_a_member_of_a_wheel_needs_the_wheel() -> None:
    files = {"a": {"sha256": ROMEO_SHA256, "member": "package/a"}}
    with pytest.raises(ConfigError, match="needs the wheel"):
        entry(files=files)
    with pytest.raises(ConfigError, match="wheel"):
        entry(files=files, wheel="package>=1")


NOT_IN_THE_MIRROR = {"gpt2", *(name for name, each in catalog().items() if each.wheel)}


@pytest.mark.parametrize("name", sorted(set(catalog()) - NOT_IN_THE_MIRROR))
def test_every_entry_of_the_mirror_has_the_content_that_the_catalog_states(
    name: str, mirror: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMMA_MIRROR", MIRROR)
    folder = mirror(catalog()[name].folder)
    assert resolve(name).is_relative_to(folder)
