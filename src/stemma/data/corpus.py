"""The corpora that the package ships, so that everything works without a network."""

from __future__ import annotations

from pathlib import Path

from stemma.errors import DataError

_FOLDER = Path(__file__).parent / "corpora"
_SUFFIX = ".txt.xz"


def shipped_corpora() -> tuple[str, ...]:
    """Names of the shipped corpora, sorted; ``corpora/README.md`` tells source and licence."""
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}")))


def shipped_corpus(name: str = "shakespeare") -> Path:
    """Path of a shipped corpus, for `read_documents`.

    Raises:
        DataError: if the package ships no corpus of this name.
    """
    if name not in shipped_corpora():
        raise DataError(
            f"no corpus {name!r} is shipped",
            cure=f"There is: {', '.join(shipped_corpora())}. Any file of yours works by its path.",
        )
    return _FOLDER / f"{name}{_SUFFIX}"
