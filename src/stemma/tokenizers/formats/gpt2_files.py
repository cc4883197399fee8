"""GPT-2's two files: tokens and their ids in JSON, and the merges, one on each line.

They are called ``encoder.json`` and ``vocab.bpe``, or ``vocab.json`` and ``merges.txt``. What no
merge makes and is no single byte can never come out of a text: it is a special token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge_list import as_pairs
from stemma.tokenizers.files import CONFIG, read_bytes
from stemma.tokenizers.formats.huggingface_vocabulary import (
    read_merges,
    read_vocabulary,
    spelled,
)
from stemma.tokenizers.special import AddedToken

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""Names of the two files."""

_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")


def pair_of(path: Path) -> tuple[Path, Path]:
    """Both files, given one of them or their directory.

    Raises:
        TokenizerError: if one is missing.
    """
    directory = path if path.is_dir() else path.parent
    for pair in PAIRS:
        first, second = (directory / name for name in pair)
        if path in (first, second) or (path == directory and first.exists()):
            for file in (first, second):
                if not file.exists():
                    raise TokenizerError(f"is missing beside {path.name}", where=str(file))
            return first, second
    raise TokenizerError(
        "is one of two files, and the other is not beside it",
        where=str(path),
        cure=f"They are called {' or '.join(' and '.join(pair) for pair in PAIRS)}.",
    )


def load_gpt2_files(path: str | Path) -> ByteLevelBPE:
    """Read a byte-level BPE that cuts text into words like GPT-2.

    Args:
        path: one of the files, or their directory; ``added_tokens.json`` beside them is read too.

    Raises:
        TokenizerError: if a file is missing or damaged, or ``tokenizer_config.json`` beside them
            names another tokenizer than GPT-2's.
    """
    vocabulary, _ = pair_of(Path(path))
    return read_pair(vocabulary, read_json(vocabulary))


def read_pair(vocabulary: Path, values: Any) -> ByteLevelBPE:
    """`load_gpt2_files`, the file of tokens being read already.

    Args:
        vocabulary: that file.
        values: what it holds.

    Raises:
        TokenizerError: see `load_gpt2_files`.
    """
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

    _, merges = pair_of(vocabulary)
    _check_config(vocabulary.parent)
    try:
        added = _read_added(vocabulary.with_name("added_tokens.json"))
        tokens, ids = read_vocabulary(values, added)
    except TokenizerError as error:
        raise _located(error, vocabulary) from error
    try:
        pairs = read_merges(_lines(merges), ids)
    except TokenizerError as error:
        raise _located(error, merges) from error
    made = {tokens[left] + tokens[right] for left, right in as_pairs(pairs)}
    known = {token.id for token in added}
    added += [
        AddedToken(token, id_)
        for id_, token in enumerate(tokens)
        if len(token) > 1 and token not in made and id_ not in known
    ]
    try:
        return ByteLevelBPE(
            spelled(tokens, {token.id: token.content for token in added}), pairs, added
        )
    except TokenizerError as error:
        raise _located(error, vocabulary) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        TokenizerError: if it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"is damaged or not JSON: {error}", where=str(path)) from None


def _lines(path: Path) -> list[str]:
    try:
        lines = read_bytes(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"is damaged: not UTF-8 at byte {error.start}") from None
    return [line for line in lines[lines[:1] != [] and lines[0].startswith("#version") :] if line]


def _read_added(path: Path) -> list[AddedToken]:
    if not path.exists():
        return []
    values = read_json(path)
    if not isinstance(values, dict) or not all(type(id_) is int for id_ in values.values()):
        raise TokenizerError("is not an object of token: id", where=str(path))
    return [AddedToken(token, id_) for token, id_ in values.items()]


def _check_config(directory: Path) -> None:
    path = directory / CONFIG
    config = read_json(path) if path.exists() else {}
    if not isinstance(config, dict):
        raise TokenizerError("is not a JSON object", where=str(path))
    name = config.get("tokenizer_class", _CLASSES[0])
    if name not in _CLASSES or config.get("add_prefix_space"):
        raise TokenizerError(
            f"asks for a {name}, and these files do not say how it cuts text",
            where=str(path),
            cure="Save that tokenizer as tokenizer.json with the transformers library.",
        )


def _located(error: TokenizerError, path: Path) -> TokenizerError:
    return TokenizerError(error.what, where=error.where or str(path), cure=error.cure)
