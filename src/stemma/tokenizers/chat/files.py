"""Where models keep their chat templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from stemma.errors import TokenizerError, reason
from stemma.tokenizers.files import read_bytes

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
_OLD_FILE = "chat_template.json"
_GGUF_TOKENS = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}


class NoTemplateError(TokenizerError):
    """A model has no chat template: it is a base model."""


class Found(NamedTuple):
    """A template's source, and the special tokens that it reads: name -> text."""

    source: str
    special: dict[str, str]


def find_template(path: Path, name: str = "default") -> Found:
    """The template of a model.

    A directory has it in ``chat_template.jinja``, in ``tokenizer_config.json`` (which may hold
    several by name) or in ``chat_template.json``; such a JSON file will do by itself as well; a
    GGUF file has it among its metadata; any other file is one.

    Raises:
        NoTemplateError: if there is none.
        TokenizerError: if a file is damaged.
    """
    if path.is_dir():
        return _in_directory(path, name)
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise TokenizerError(f"cannot be read: {reason(error)}", where=str(path)) from None
    if path.suffix == ".json":
        return _in_config(_read_json(path), path, name)
    return _in_gguf(path) if is_gguf else Found(_read_text(path), {})


def _in_directory(directory: Path, name: str) -> Found:
    config = _read_json(directory / CONFIG_FILE)
    path = directory / TEMPLATE_FILE
    found: Any = _read_text(path) if path.exists() else config.get("chat_template")
    found = found or _read_json(directory / _OLD_FILE).get("chat_template")
    return _in_config({**config, "chat_template": found}, directory, name)


def _in_config(config: dict[str, Any], where: Path, name: str) -> Found:
    found = config.get("chat_template")
    if isinstance(found, list):
        found = _of_several(found, name, where)
    if not isinstance(found, str):
        raise _none_in(where)
    names = {key: _content_of(row) for key, row in config.items() if key.endswith("_token")}
    return Found(found, {key: text for key, text in names.items() if text is not None})


def _of_several(rows: list[Any], name: str, where: Path) -> Any:
    named = {str(row.get("name")): row.get("template") for row in rows if isinstance(row, dict)}
    if name not in named:
        raise TokenizerError(
            f"there is no chat template {name!r}",
            where=str(where),
            cure=f"There are: {', '.join(named)}.",
        )
    return named[name]


def _in_gguf(path: Path) -> Found:
    from stemma.tokenizers.formats.gguf_metadata import read_metadata

    prefix = "tokenizer.ggml"
    ids = {key: f"{prefix}.{name}_token_id" for key, name in _GGUF_TOKENS.items()}
    wanted = {"tokenizer.chat_template", f"{prefix}.tokens", *ids.values()}
    values = read_metadata(path, lambda name: name in wanted)
    source, tokens = values.get("tokenizer.chat_template"), values.get(f"{prefix}.tokens", [])
    if not isinstance(source, str):
        raise _none_in(path)
    if not isinstance(tokens, list):
        raise TokenizerError(f"{prefix}.tokens is no list", where=str(path))
    given = {key: values.get(name) for key, name in ids.items()}
    return Found(
        source,
        {key: tokens[i] for key, i in given.items() if isinstance(i, int) and 0 <= i < len(tokens)},
    )


def _none_in(path: Path) -> NoTemplateError:
    return NoTemplateError(
        "there is no chat template here",
        where=str(path),
        cure=f"Put one into {TEMPLATE_FILE}, or use ChatTemplate(CHATML).",
    )


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"is not UTF-8: {error}", where=str(path)) from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"is damaged: {error}", where=str(path)) from None
    return value if isinstance(value, dict) else {}


def _content_of(token: Any) -> str | None:
    """A special token's text, which configurations write as it is or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
