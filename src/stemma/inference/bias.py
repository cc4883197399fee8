"""Biases as users write them: by a token's text, or by its id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stemma.errors import ConfigError

if TYPE_CHECKING:
    from stemma.tokenizers import Tokenizer


def parse_bias(tokenizer: Tokenizer, items: Iterable[str]) -> dict[int, float]:
    """``TOKEN=NUMBER`` -> id -> number; a token is an id, or a text that is one token.

    Raises:
        ConfigError: if an item is not of this form, or the text is not one token.
    """
    return {_id_of(tokenizer, token): value for token, value in split_bias(items)}


def split_bias(items: Iterable[str]) -> list[tuple[str, float]]:
    """``TOKEN=NUMBER`` -> the token's text or id, and the number; no tokenizer is needed.

    Raises:
        ConfigError: if an item is not of this form.
    """
    found = []
    for item in items:
        token, _, number = item.rpartition("=")
        try:
            found.append((token, float(number)))
        except ValueError:
            token = ""
        if not token:
            raise ConfigError(
                f"{item!r} is not TOKEN=NUMBER",
                where="logit bias",
                cure="Write for example ' the=-5', or 262=-5 for the token of id 262.",
            )
    return found


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    if token.isascii() and token.isdigit():
        return int(token)
    ids = tokenizer.encode(token, allowed_special="all").tolist()
    if len(ids) != 1:
        parts = ", ".join(f"{tokenizer.decode([id_])!r} ({id_})" for id_ in ids)
        raise ConfigError(
            f"{token!r} is {len(ids)} tokens: {parts}",
            where="logit bias",
            cure="Give each token by itself, or its id.",
        )
    return int(ids[0])
