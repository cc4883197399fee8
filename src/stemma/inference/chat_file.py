"""Conversations in files: JSON, with the sampling and the length that they were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from stemma.errors import DataError
from stemma.inference.chat import Chat
from stemma.inference.chat_format import Message
from stemma.inference.sampling_config import SamplingConfig

_ROLES = ("system", "user", "assistant")


class SavedChat(NamedTuple):
    """What a file holds.

    Attributes:
        messages: in order.
        sampling: None if it was all by default.
        max_new_tokens: of an answer; None if the file does not say.
    """

    messages: list[Message]
    sampling: SamplingConfig | None
    max_new_tokens: int | None


def save_chat(chat: Chat, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a conversation; what was there is replaced as a whole or not at all.

    Raises:
        DataError: if the file exists and may not be replaced, or cannot be written.
    """
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise DataError(
            "exists, and nothing is overwritten silently",
            where=str(path),
            cure="Choose another, or replace it: /save! FILE, or overwrite=True.",
        )
    values = {
        "messages": [dict(message) for message in chat.messages],
        "sampling": chat.sampling.model_dump(exclude_defaults=True),
        "max_new_tokens": chat.max_new_tokens,
    }
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from None
    return path


def load_chat(chat: Chat, path: str | Path) -> None:
    """Go on with a conversation that was saved; nothing changes if it cannot be read.

    Errors are those of `read_chat`.
    """
    saved = read_chat(path)
    chat.messages = saved.messages
    chat.sampling = saved.sampling or chat.sampling
    chat.max_new_tokens = saved.max_new_tokens or chat.max_new_tokens


def read_chat(path: str | Path) -> SavedChat:
    """A conversation that was saved.

    Raises:
        DataError: if the file cannot be read, or is no conversation.
        ConfigError: if its sampling is not valid.
    """
    path = Path(path).expanduser()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, RecursionError):
        values = None
    messages = values.get("messages") if isinstance(values, dict) else None
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise DataError(
            "is no conversation",
            where=str(path),
            cure='/save writes one: {"messages": [{"role": "user", "content": "..."}, ...]}; a '
            "system message can only be the first.",
        )
    if any(message["role"] == "system" for message in messages[1:]):
        raise DataError("a system message stands behind others", where=str(path))
    sampling = SamplingConfig.parse(values.get("sampling") or {}, source=str(path))
    most = values.get("max_new_tokens")
    if most is not None and (type(most) is not int or most < 1):
        raise DataError(
            f"max_new_tokens = {most!r}",
            where=str(path),
            cure="Make it a whole number from 1 on, or leave it out.",
        )
    said: list[Message] = [{"role": m["role"], "content": m["content"]} for m in messages]
    return SavedChat(said, sampling if values.get("sampling") else None, most)


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("role") in _ROLES
        and isinstance(value.get("content"), str)
    )
