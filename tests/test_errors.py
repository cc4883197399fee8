"""What is said of errors that others raise."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import URLError

import pytest

from stemma.cli import main
from stemma.errors import reason


def test_the_system_s_numbers_and_paths_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "none").read_text()
    assert reason(missing.value) == "No such file or directory"
    assert reason(URLError(missing.value)) == "No such file or directory"
    assert reason(URLError("no host given")) == "<urlopen error no host given>"
    with pytest.raises(UnicodeDecodeError) as undecoded:
        b"ab\xff".decode()
    assert reason(undecoded.value) == "not UTF-8: byte 0xff at offset 2"
    with pytest.raises(ValueError, match="Expecting") as no_json:
        json.loads("x")
    assert reason(no_json.value) == "Expecting value: line 1 column 1 (char 0)"


def test_an_error_of_the_system_names_its_file_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "the/file")

    monkeypatch.setattr("stemma.hub.commands._show_catalog", fail)
    with pytest.raises(SystemExit):
        main(["pull", "--list"])
    assert capsys.readouterr().err == "error: the/file: Permission denied\n"
