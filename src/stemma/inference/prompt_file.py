"""Prompts from a file: a line of text each, or a JSON object each."""

from __future__ import annotations

import json
from pathlib import Path

from stemma.errors import DataError, reason


def read_prompts(path: str | Path) -> list[str]:
    """The prompts of a file, in order.

    In a file ``.jsonl`` each line is a JSON string, or an object whose ``prompt`` is one; in any
    other file each line is a prompt as it is. Lines of nothing but spaces are left out.

    Raises:
        DataError: if the file cannot be read, holds no prompt, or a line is none of this.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {reason(error)}", where=str(path)) from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError("holds no prompt", where=str(path), cure="Write one a line.")
    if path.suffix != ".jsonl":
        return [line.removesuffix("\r") for _, line in lines]
    return [_prompt(line, f"{path}, line {number}") for number, line in lines]


def _prompt(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no JSON: {error}", where=where) from None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise DataError(
            "holds no prompt", where=where, cure='Write {"prompt": "..."}, or the text as a string.'
        )
    return prompt
