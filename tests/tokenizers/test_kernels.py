"""When kernels are loaded, and where their code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

from stemma.tokenizers import kernels

USE = """
import sys
from stemma.tokenizers import gpt2
text = "A text long enough for the kernels. " * 4000
ids = gpt2().encode(text)
assert gpt2().decode(ids) == text
assert "numba" in sys.modules
"""


def assert_runs(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert found.returncode == 0, found.stderr
    return found


def test_short_texts_load_no_compiler() -> None:
    assert_runs("""
        import sys
        from stemma.tokenizers import gpt2
        gpt2().encode("Hello" * 1000)
        gpt2().decode([15496] * 1000)
        assert "numba" not in sys.modules
    """)


def test_kernels_are_kept_where_numba_is_told(tmp_path: Path) -> None:
    assert_runs(USE, NUMBA_CACHE_DIR=str(tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert kept
    assert_runs(USE, NUMBA_CACHE_DIR=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept


@pytest.mark.slow
def test_without_a_writable_directory_they_are_compiled_for_the_process(tmp_path: Path) -> None:
    """No directory can be made below a file, whoever asks."""
    file = tmp_path / "file"
    file.touch()
    assert_runs(
        f"""
        from stemma.tokenizers import kernels
        from pathlib import Path
        kernels._FOLDER = Path({str(file)!r})
        kernels._folder_of = lambda function: kernels._FOLDER
        assert kernels.cache_directory() is None
        assert not kernels.cached()
        {USE.replace(chr(10), chr(10) + "        ")}
        """,
        NUMBA_CACHE_DIR=str(file),
        XDG_CACHE_HOME=str(file),
    )


@pytest.mark.slow
def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    assert_runs(USE, NUMBA_CACHE_DIR=str(tmp_path))
    for path in [*tmp_path.rglob("*.nbc"), *tmp_path.rglob("*.nbi")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_runs(USE, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.slow
def test_a_cache_that_can_no_longer_be_written_does_no_harm(tmp_path: Path) -> None:
    """Its directory is a file by the time when something is compiled."""
    assert_runs(
        f"""
        import shutil
        from stemma.tokenizers.kernels import cache_directory, words
        shutil.rmtree(cache_directory())
        cache_directory().touch()
        {USE.replace(chr(10), chr(10) + "        ")}
        """,
        NUMBA_CACHE_DIR=str(tmp_path),
    )


def test_only_the_latest_versions_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "others").mkdir()
    for i in range(8):
        monkeypatch.setattr(kernels, "_source_hash", lambda _, i=i: f"version{i}")
        directory = kernels.cache_directory.__wrapped__()
        (directory / "code.nbc").touch()
        os.utime(directory, (i, i))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [*(f"kernels-version{i}" for i in range(3, 8)), "others"]


def test_code_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first = kernels.cache_directory.__wrapped__()
    monkeypatch.setattr(kernels, "_source_hash", lambda _: "another")
    second = kernels.cache_directory.__wrapped__()
    assert first is not None
    assert second is not None
    assert first != second


def test_much_short_text_loads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels._state, "loaded", False)
    monkeypatch.setitem(kernels._state, "bytes", 0)
    monkeypatch.setattr(kernels, "cached", lambda: False)
    assert not kernels.worth(99_999)
    assert kernels.worth(100_000)
    assert not any(kernels.worth(50_000) for _ in range(300))
    monkeypatch.setattr(kernels, "cached", lambda: True)
    assert kernels.worth(50_000)


@pytest.mark.parametrize("writable", [True, False])
def test_compiling_is_announced_where_the_code_is_not_on_disk(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "little_kernel.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "little_kernel", raising=False)
    monkeypatch.setattr(kernels, "cache_directory", lambda _: tmp_path)
    if not writable:
        monkeypatch.setattr("numba.core.caching.FunctionCache.__init__", _no_place)
    twice = import_module("little_kernel").twice
    for again in (False, True):
        said: list[str] = []
        monkeypatch.setattr(kernels, "before_compiling", [lambda said=said: said.append("now")])
        assert kernels.kernel(twice)(21) == 42
        assert said == (["now"] if not again or not writable else [])


def _no_place(*_: object) -> None:
    raise RuntimeError("cannot cache function: no locator available")
