"""A tokenizer's directory: written whole, and refused when damaged."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemma.errors import TokenizerError, reason

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
CHECKSUM = "tokenizer.json.sha256"

LARGEST_FILE = 1 << 28
"""Bytes; a vocabulary of 260,000 tokens takes an eighth of that."""

_MAYBE_SURROGATE = re.compile(rb"\\u[dD]")


def write_directory(
    directory: Path, document: dict[str, Any], special_tokens: Mapping[str, int], *, overwrite: bool
) -> Path:
    """Write the three files, each beside itself first and then renamed.

    The checksum has the form of ``sha256sum``, so that ``sha256sum -c`` proves it too.

    Raises:
        TokenizerError: if another tokenizer is there (unless ``overwrite``), or writing fails.
    """
    from stemma.tokenizers.formats.huggingface_json import config_json

    data = _dump(document)
    path = directory / TOKENIZER
    checksum = f"{hashlib.sha256(data).hexdigest()}  {TOKENIZER}\n"
    config = _dump(config_json(special_tokens, document["model"].get("unk_token")))
    try:
        if path.exists() and not overwrite and path.read_bytes() != data:
            raise TokenizerError(
                "there is another tokenizer here",
                where=str(path),
                cure="Choose another directory, or remove it (in Python: overwrite=True).",
            )
        directory.mkdir(parents=True, exist_ok=True)
        # Without its checksum a file is merely unproved; with the old one it would be refused.
        (directory / CHECKSUM).unlink(missing_ok=True)
        _write(path, data)
        _write(directory / CONFIG, config)
        _write(directory / CHECKSUM, checksum.encode())
    except OSError as error:
        raise TokenizerError(
            f"cannot be written: {error.strerror or error}", where=error.filename or str(directory)
        ) from error
    return directory


def read_bytes(path: Path) -> bytes:
    """The content of a file that is no larger than a vocabulary may be.

    Raises:
        TokenizerError: if it cannot be read, is no file, or is too large.
    """
    try:
        if path.exists() and not path.is_file():
            raise TokenizerError("is not a file", where=str(path))
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise TokenizerError(
                f"has {size:,} bytes: no vocabulary is that large", where=str(path)
            )
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"cannot be read: {error.strerror or error}", where=str(path)
        ) from None


def read_document(path: Path) -> dict[str, Any]:
    """Read ``tokenizer.json``, checked against its checksum if that lies beside it.

    Raises:
        TokenizerError: if it is missing, does not match the checksum, or is not JSON.
    """
    data = read_bytes(path)
    try:
        checksum = path.with_name(CHECKSUM)
        expected = checksum.read_text("ascii").split() if checksum.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"cannot be read: {reason(error)}", where=str(path)) from None
    if path.name == TOKENIZER and expected is not None:
        found = hashlib.sha256(data).hexdigest()
        if expected != [found, TOKENIZER]:
            raise TokenizerError(
                f"is damaged: its sha256 is {found[:12]}..., not the one in {CHECKSUM}",
                where=str(path),
                cure=f"Restore the file; if the change was meant, delete {CHECKSUM}.",
            )
    try:
        document = json.loads(data, object_pairs_hook=_no_double_keys)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"is damaged or not JSON: {error}", where=str(path)) from None
    if not isinstance(document, dict):
        raise TokenizerError("is not a tokenizer.json: no JSON object", where=str(path))
    if _MAYBE_SURROGATE.search(data):
        _check_surrogates(document, path)
    return document


def _check_surrogates(document: dict[str, Any], path: Path) -> None:
    """JSON may write half a surrogate pair, which is no text."""
    try:
        _dump(document)
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise TokenizerError(f"holds a lone surrogate, {half}", where=str(path)) from None


def _no_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        (double, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{double!r} is listed twice")
    return values


def _dump(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def write_bytes(path: Path, data: bytes) -> Path:
    """Write one file, beside itself first.

    Raises:
        TokenizerError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except OSError as error:
        raise TokenizerError(
            f"cannot be written: {error.strerror or error}", where=str(path)
        ) from error
    return path


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
