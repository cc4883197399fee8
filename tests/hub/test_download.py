"""Downloads that are gone on with, against a real server that misbehaves in every known way."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from stemma.errors import DataError
from stemma.hub import download as module
from stemma.hub.download import download
from stemma.hub.progress import ProgressLine

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server has, and how it answers."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    honours_if_range: bool = True
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    seen: list[tuple[str | None, str | None]] = field(default_factory=list)
    pause: float = 0.0
    shift: int = 0
    sent: int = 0
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.seen.append((asked, self.headers.get("If-Range")))
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        same = self.headers.get("If-Range") in (None, site.etag) or not site.honours_if_range
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(site.content) and same:
            self.send_error(416)
            return
        part = bool(asked) and site.ranges and same
        start += site.shift if part else 0
        time.sleep(site.pause)
        body = site.content[start:] if part else site.content
        self.send_response(206 if part else 200)
        if part:
            end = len(site.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: site.break_after.pop(0)] if site.break_after else body
        site.sent += len(body)
        self.wfile.write(body)


@pytest.fixture
def site(serve: Callable[..., AbstractContextManager[str]]) -> Iterator[Site]:
    site = Site()
    with serve(type("OfThisSite", (Handler,), {"site": site})) as url:
        site.url = f"{url}/model.gguf"
        yield site


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.gguf"


def left(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_a_dropped_connection_is_gone_on_with(site: Site, path: Path) -> None:
    site.break_after = [1_000_000, 500_000]
    seen: list[tuple[int, int | None]] = []
    download(site.url, path, sha256=SHA256, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert site.seen == [(None, None), ("bytes=1000000-", '"one"'), ("bytes=1500000-", '"one"')]
    assert site.sent == len(CONTENT)
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert left(path) == ["model.gguf"]


def test_the_next_call_goes_on_where_the_last_one_ended(site: Site, path: Path) -> None:
    site.break_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"(?s)stopped after 1,000,000 of 3,000,000.*are kept"):
        download(site.url, path, sha256=SHA256)
    assert not path.exists()
    site.seen.clear()
    download(site.url, path, sha256=SHA256)
    assert site.seen == [("bytes=1000000-", '"one"')]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_server_that_knows_no_parts(site: Site, path: Path, sha256: str | None) -> None:
    site.ranges, site.break_after = False, [1_000_000]
    download(site.url, path, sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert site.sent == len(CONTENT) + 1_000_000


def test_another_version_is_fetched_from_its_beginning(site: Site, path: Path) -> None:
    site.break_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError):
        download(site.url, path)
    site.content, site.etag = CONTENT[::-1], '"two"'
    download(site.url, path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_server_that_mixes_versions_is_found_out(site: Site, path: Path) -> None:
    """It ignores If-Range: only the checksum tells."""
    site.honours_if_range, site.break_after = False, [1_000_000, 0, 0, 0]
    with pytest.raises(DataError):
        download(site.url, path, sha256=SHA256)
    site.content = CONTENT[::-1]
    download(site.url, path, sha256=hashlib.sha256(site.content).hexdigest())
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_mark_of_the_version_only_a_checksum_allows_to_go_on(
    site: Site, path: Path, etag: str | None
) -> None:
    site.etag, site.break_after = etag, [1_000_000]
    download(site.url, path, sha256=SHA256)
    assert site.seen[1] == ("bytes=1000000-", None)
    site.seen.clear()
    site.break_after = [1_000_000]
    download(site.url, path.with_name("other"))
    assert site.seen == [(None, None), (None, None)]
    assert path.with_name("other").read_bytes() == CONTENT


def test_what_belongs_to_another_address_is_not_gone_on_with(site: Site, path: Path) -> None:
    site.break_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError):
        download(site.url, path, sha256=SHA256)
    site.seen.clear()
    download(site.url + "?other", path, sha256=SHA256)
    assert site.seen == [(None, None)]


def test_more_here_than_there_is(site: Site, path: Path) -> None:
    site.break_after = [1_000_000, 0, 0, 0]
    with pytest.raises(DataError):
        download(site.url, path, sha256=SHA256)
    site.content = CONTENT[:400_000]
    download(site.url, path, sha256=hashlib.sha256(site.content).hexdigest())
    assert path.read_bytes() == site.content


def test_a_wrong_checksum_leaves_nothing(site: Site, path: Path) -> None:
    with pytest.raises(DataError, match=f"(?s)expected sha256 {'0' * 64}, found {SHA256}"):
        download(site.url, path, sha256="0" * 64)
    assert left(path) == []


def test_errors_that_pass_are_waited_for_and_others_not(site: Site, path: Path) -> None:
    site.statuses = [503, 500, 429]
    download(site.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    site.statuses = [404]
    with pytest.raises(DataError, match="404"):
        download(site.url, path.with_name("b"), sha256="0" * 64)
    site.statuses = [503] * 9
    with pytest.raises(DataError, match="503"):
        download(site.url, path.with_name("b"), sha256="0" * 64)
    assert len(site.statuses) == 5


def test_too_little_space_is_said_before(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(path.parent.parent)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"(?s)3,000,000 bytes are to come, and 2,000,000 are free"):
        download(site.url, path, sha256=SHA256)
    assert not path.exists()


def test_a_disk_that_is_full_after_all(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is kept for the next time."""
    kept = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 1_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def full(self: Path, mode: str = "r", **rest: Any) -> Any:
        return Full(self, "ab") if mode == "ab" else kept(self, mode, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(DataError, match=r"(?s)cannot be written: No space.*Free some space"):
            download(site.url, path, sha256=SHA256)
    assert not path.exists()
    download(site.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert site.seen[-1][0] is not None


def test_two_at_once_do_not_mix(site: Site, path: Path) -> None:
    """Threads here; the lock is on a file, and so holds between processes as well."""
    site.pause = 0.3
    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(download, site.url, path, sha256=SHA256) for _ in range(2)]
        assert [each.result() for each in done] == [None, None]
    assert path.read_bytes() == CONTENT
    assert site.sent == len(CONTENT)
    assert left(path) == ["model.gguf"]


def test_a_part_that_begins_elsewhere_is_not_put_behind_ours(site: Site, path: Path) -> None:
    for sha256 in (SHA256, None):
        site.break_after, site.shift = [1_000_000], 7
        download(site.url, path, sha256=sha256)
        assert path.read_bytes() == CONTENT
        path.unlink()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_has_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("stemma.hub.progress.monotonic", lambda: clock[0])
    for stream, expected in (
        (io.StringIO(), "53.0 of 103.0 MB (51 %), 9.1 MB/s, 5 s left\n103.0 of 103.0 MB (100 %)"),
        (Terminal(), "\r\x1b[K3.0 of 103.0 MB (2 %), 1.0 MB/s, 1 min 35 s left\r\x1b[K53.0 of"),
    ):
        clock[0] = 0.0
        line = ProgressLine(stream)
        for seconds, done in ((1.0, 3), (5.6, 53), (6.0, 103)):
            clock[0] = seconds
            line(done * 1_000_000, 103_000_000)
        assert stream.getvalue().startswith(expected)
        assert stream.getvalue().endswith("\n")
