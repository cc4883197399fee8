"""Machine code for the loops that text goes through, compiled by numba from Python.

Every kernel has a readable twin elsewhere in the package that does the same more slowly: the twin
is what the documentation shows and what the tests compare with. A kernel is never needed: a short
text does not wait for compilation (`worth`), and where no directory can be written, kernels are
compiled anew in every process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

LONG_TEXT = 100_000
"""Bytes of one text (or batch) for which the kernels are loaded, and compiled if need be."""

_FOLDER = Path(__file__).parent
_VERSIONS_KEPT = 5
_MUCH_TEXT_CACHED = 1_000_000
_MUCH_TEXT_UNCACHED = 20_000_000

before_compiling: list[Callable[[], object]] = []
"""Called once, before the first kernel that is not on disk is compiled: it and those that come with
it take 10 to 20 seconds."""

F = TypeVar("F", bound=Callable[..., Any])
_lock = Lock()
_state = {"loaded": False, "bytes": 0}


def kernel(function: F) -> F:
    """Compile ``function`` when it is first called, without the GIL; keep the code on disk.

    Where no cache directory can be written, the code lives as long as the process.
    """
    return _compile(function)


def lean_kernel(function: F) -> F:
    """A `kernel` that neither makes nor returns arrays.

    So it need not count who holds an array, which at every call takes longer than encoding a short
    word, and stops threads that share a vocabulary. It may call a kernel that makes arrays for
    itself, but none that returns one.
    """
    return _compile(function, _nrt=False)


def any_order_kernel(function: F) -> F:
    """A `lean_kernel` whose sums may be taken in any order, so that they become vectors."""
    return _compile(function, _nrt=False, fastmath={"reassoc", "nsz", "nnan"})


def inlined_kernel(function: F) -> F:
    """A `lean_kernel` that becomes part of those that call it: handing arrays over takes time."""
    return _compile(function, _nrt=False, forceinline=True)


def _compile(function: F, **options: Any) -> F:
    import numba

    folder = _folder_of(function)
    if folder == _FOLDER:
        _state["loaded"] = True
    options = {"_nrt": True, "forceinline": False, "nogil": True} | options
    with _lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_directory(folder) or "")
        try:
            compiled = numba.njit(cache=True, error_model="numpy", **options)(function)
            return _forgiving(compiled)
        except (RuntimeError, OSError):
            _announce()
            return numba.njit(error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = before


def _folder_of(function: Callable[..., Any]) -> Path:
    return Path(function.__code__.co_filename).parent


def _forgiving(compiled: F) -> F:
    """Let the cache on disk fail without harm, where numba would stop with an error.

    A damaged file is made anew; what cannot be written (the disk is full, the directory gone) lives
    as long as the process.
    """
    kept = getattr(compiled, "_cache", None)
    load = getattr(kept, "load_overload", None)
    save = getattr(kept, "save_overload", None)
    if kept is None or load is None or save is None:
        return compiled

    def load_overload(signature: Any, target: Any) -> Any:
        try:
            found = load(signature, target)
        except Exception:  # whatever reading a damaged pickle can raise
            with suppress(OSError):
                kept.flush()
            found = None
        if found is None:
            _announce()
        return found

    def save_overload(signature: Any, data: Any) -> None:
        with suppress(OSError):
            save(signature, data)

    kept.load_overload = load_overload
    kept.save_overload = save_overload
    return compiled


def _announce() -> None:
    while before_compiling:
        before_compiling.pop()()


def worth(n_bytes: int) -> bool:
    """Whether ``n_bytes`` more of text should go through the kernels.

    True for a long text; for short ones once the kernels are loaded, or once so much text has gone
    by that loading them (or compiling them, where they are not on disk yet) pays.
    """
    if _state["loaded"] or n_bytes >= LONG_TEXT:
        return True
    _state["bytes"] += n_bytes
    return _state["bytes"] >= (_MUCH_TEXT_CACHED if cached() else _MUCH_TEXT_UNCACHED)


@cache
def cached(folder: Path | None = None) -> bool:
    """Whether compiled kernels were on disk when this was first asked.

    Args:
        folder: the package that they belong to; this one by default.
    """
    directory = cache_directory(folder)
    return directory is not None and any(directory.rglob("*.nbi"))


@cache
def cache_directory(folder: Path | None = None) -> Path | None:
    """Where the compiled kernels of a package are kept: the first of these that can be written.

    ``$NUMBA_CACHE_DIR``, ``__pycache__`` beside them, ``$XDG_CACHE_HOME/stemma``. The last part of
    its name is a hash of the kernels' source, so that code compiled from another version is never
    used: numba itself notices a change only in the file of the function that is called.
    """
    folder = folder or _FOLDER
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    bases = [Path(chosen)] if chosen else []
    bases += [folder / "__pycache__", cache_home / "stemma"]
    for base in bases:
        directory = base / f"kernels-{_source_hash(folder)}"
        try:
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                _forget_versions(base)
            probe = directory / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        return directory
    return None


def _forget_versions(base: Path) -> None:
    """Delete what was compiled from other versions, but for the latest few."""
    with suppress(OSError):
        versions = sorted(base.glob("kernels-*"), key=lambda path: path.stat().st_mtime)
        for directory in versions[:-_VERSIONS_KEPT]:
            shutil.rmtree(directory, ignore_errors=True)


def _source_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({*folder.glob("*.py"), Path(__file__)}):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
