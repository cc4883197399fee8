"""A name or path, as somebody types it -> the tokenizer meant by it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from stemma.errors import TokenizerError
from stemma.tokenizers.tokenizer import Tokenizer

MIRROR = "STEMMA_MIRROR"
IN_MIRROR = {
    "r50k_base": "tokenizers/tiktoken/r50k_base.tiktoken",
    "p50k_base": "tokenizers/tiktoken/p50k_base.tiktoken",
    "cl100k_base": "tokenizers/tiktoken/cl100k_base.tiktoken",
    "o200k_base": "tokenizers/tiktoken/o200k_base.tiktoken",
    "bert": "tokenizers/bert/tokenizer.json",
    "t5": "tokenizers/t5/flan-t5-tokenizer.json",
    "llama": "tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf",
}
"""Names of files that a mirror folder may hold."""

HELP = "gpt2, a run, a directory or file with a tokenizer, or a name that STEMMA_MIRROR has."


def find_tokenizer(
    name: str, note: Callable[[str], object] = lambda _: None
) -> tuple[str, Tokenizer]:
    """A short label for what was named, and the tokenizer.

    A path comes before a name. That of a run stands for the run's tokenizer.

    Args:
        name: ``gpt2``, a path, or a name of `IN_MIRROR`.
        note: told what the reader of the file wants to have said.

    Raises:
        TokenizerError: if there is no such tokenizer, or it cannot be read.
    """
    from stemma.tokenizers import gpt2, load_tokenizer

    path = Path(name)
    if not path.exists():
        if name == "gpt2":
            return name, gpt2()
        path = _in_mirror(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tokenizer = load_tokenizer(_of_run(path))
    for one in dict.fromkeys(str(warning.message) for warning in told):
        note(f"{name}: {one}")
    return (_label(path) if Path(name).exists() else name), tokenizer


def find_tokenizers(
    names: Sequence[str], note: Callable[[str], object] = lambda _: None
) -> dict[str, Tokenizer]:
    """Label -> tokenizer; those with the same label are told apart by what was typed.

    Raises:
        TokenizerError: see `find_tokenizer`.
    """
    found = [find_tokenizer(name, note) for name in names]
    labels = [label for label, _ in found]
    return {
        label if labels.count(label) == 1 else name: tokenizer
        for name, (label, tokenizer) in zip(names, found, strict=True)
    }


def _in_mirror(name: str) -> Path:
    folder = os.environ.get(MIRROR)
    if folder and name in IN_MIRROR and (path := Path(folder) / IN_MIRROR[name]).exists():
        return path
    known = [
        "gpt2",
        *(key for key in IN_MIRROR if folder and (Path(folder) / IN_MIRROR[key]).exists()),
    ]
    hint = (
        "" if folder else f" With {MIRROR} set to a folder of data, also: {', '.join(IN_MIRROR)}."
    )
    raise TokenizerError(
        f"there is no tokenizer {name!r}",
        cure=f"Give the path of a run, of a directory or file with a tokenizer, or "
        f"{' or '.join(known)}.{hint}",
    )


def _of_run(path: Path) -> Path:
    return path / "tokenizer" if (path / "recipe.toml").exists() else path


def _label(path: Path) -> str:
    """The name of a run, directory or file; of a ``tokenizer.json`` that of what it lies in."""
    path = path.resolve()
    plain = path.name in ("tokenizer", "tokenizer.json", "tokenizer.model")
    return _label(path.parent) if plain and path.parent.name else path.name
