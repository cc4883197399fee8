"""Uploads, to a server that speaks the Hub's few calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stemma.cli import build_app
from stemma.errors import ModelError
from stemma.hub import push


@dataclass
class FakeHub:
    """What was asked of the server, and what it holds."""

    token: str = "hf_good"
    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").partition("/revision")[0].partition("?")[0]
        found = {"id": name, "sha": "0" * 40, "siblings": []}
        self.answer(200 if name in self.hub.repos else 404, found)

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n)
                self.rfile.readline()
        else:
            body = self.rfile.read(size)
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.answer(401, {"error": "Invalid token"})
        elif self.hub.status != 200:
            self.answer(self.hub.status, {"error": "not now"})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.hub.repos[name] = bool(
                asked.get("private") or asked.get("visibility") == "private"
            )
            self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            row = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer(200, {"files": [{"path": name, **row} for name in names]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.hub.files[value["path"]] = base64.b64decode(value["content"])
            where = f"{self.hub.url}/owner/repo/commit/{'0' * 40}"
            self.answer(200, {"success": True, "commitUrl": where, "commitOid": "0" * 40})
        else:
            self.answer(404, {"error": self.path})


@pytest.fixture
def hub(
    serve: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    hub = FakeHub()
    with serve(type("OfThisHub", (Handler,), {"hub": hub})) as url:
        hub.url = url
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        for name in ("HF_HUB_OFFLINE", "STEMMA_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("no_proxy", "*")
        yield hub


def test_the_files_arrive_as_they_are(hub: FakeHub, saved: Path) -> None:
    assert push(saved, "owner/repo") == f"{hub.url}/owner/repo"
    assert hub.repos == {"owner/repo": False}
    assert hub.files == {file.name: file.read_bytes() for file in saved.iterdir()}
    push(saved, "owner/hidden", private=True)
    assert hub.repos["owner/hidden"]


def test_the_command(hub: FakeHub, saved: Path) -> None:
    done = CliRunner().invoke(build_app("push"), ["push", str(saved), "owner/repo"])
    assert done.exit_code == 0, done.output
    assert f"{hub.url}/owner/repo" in done.stdout


@pytest.mark.parametrize("name", ["notes.txt", ".env", "optimizer.bin", "state.pt"])
def test_what_is_no_part_of_a_model_stays_here(hub: FakeHub, saved: Path, name: str) -> None:
    (saved / name).write_text("mine")
    with pytest.raises(ModelError, match=rf"{name}.*is no part of a model|is a pickle"):
        push(saved, "owner/repo")
    assert not hub.repos


def test_neither_do_folders(hub: FakeHub, saved: Path) -> None:
    (saved / "runs").mkdir()
    with pytest.raises(ModelError, match="holds 'runs', which is no part"):
        push(saved, "owner/repo")
    assert not hub.repos


def test_a_damaged_directory_stays_here(hub: FakeHub, saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="is damaged or was changed"):
        push(saved, "owner/repo")
    assert not hub.repos
    path.unlink()
    with pytest.raises(ModelError, match=r"'model\.safetensors' is missing"):
        push(saved, "owner/repo")
    with pytest.raises(ModelError, match="is not a model directory"):
        push(saved.parent, "owner/repo")


@pytest.mark.parametrize("repo", ["repo", "owner/repo@main", "a/b/c", ""])
def test_a_name_that_is_none(saved: Path, repo: str) -> None:
    with pytest.raises(ModelError, match="names no repository"):
        push(saved, repo)


def test_without_a_token_that_may_write(
    hub: FakeHub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelError, match=r"(?s)owner/repo: does not let you .*401.*hf auth login"):
        push(saved, "owner/repo")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.status = 403
    with pytest.raises(ModelError, match="403"):
        push(saved, "owner/repo")


def test_without_any_token(hub: FakeHub, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ModelError, match=r"owner/repo: asks who you are\nRun `hf auth login`"):
        push(saved, "owner/repo")


def test_without_a_network(hub: FakeHub, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        push(saved, "owner/repo")
    monkeypatch.setenv("STEMMA_OFFLINE", "1")
    with pytest.raises(ModelError, match="network is switched off"):
        push(saved, "owner/repo")
    assert not hub.repos
