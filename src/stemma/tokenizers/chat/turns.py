"""Which characters of a rendered conversation the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.text import FIRST_MESSAGE, GENERATED, TEMPLATE, AuthoredText, authors_of

if TYPE_CHECKING:
    from stemma.tokenizers.chat.template import Message

Write = Callable[[Sequence["Message"], bool], AuthoredText]
"""Messages and whether to add the generation prompt -> the text."""


def turn_cuts(text: AuthoredText, messages: Sequence[Message]) -> list[int]:
    """Where the first character of each of the assistant's messages stands."""
    authors = authors_of(text)
    cuts = []
    for i, message in enumerate(messages):
        if message.get("role") == "assistant":
            own = FIRST_MESSAGE + i
            found = [authors.find(chr(author)) for author in (own, own | GENERATED)]
            cuts.append(min((at for at in found if at >= 0), default=0))
    return cuts


def marked_characters(text: AuthoredText) -> NDArray[np.bool_]:
    """The characters inside ``{% generation %}`` blocks."""
    return np.array([ord(author) >= GENERATED for author in authors_of(text)], np.bool_)


def assistant_characters(
    text: AuthoredText, messages: Sequence[Message], names: Sequence[str], write: Write
) -> NDArray[np.bool_]:
    """The assistant's turns, each with the special token that ends it.

    Args:
        text: the whole conversation.
        messages: its messages.
        names: the special tokens' names.
        write: renders the beginning of the conversation.

    Raises:
        TokenizerError: if it cannot be told where a turn begins.
    """
    written = np.zeros(len(text), np.bool_)
    for i, message in enumerate(messages):
        if message.get("role") == "assistant":
            start = _turn_start(text, write(messages[:i], True), i)
            written[start : _turn_end(text, start, i, names)] = True
    return written


def _turn_start(text: AuthoredText, prompt: AuthoredText, i: int) -> int:
    """Where message ``i`` begins: behind what the template writes to ask for it."""
    if text.startswith(prompt):
        return len(prompt)
    # The beginning was written in another way; what stands behind the last message may be the same.
    before = chr(FIRST_MESSAGE + i - 1)
    tail = prompt[authors_of(prompt).rfind(before) + 1 :]
    start = authors_of(text).rfind(before) + 1
    if start and text.startswith(tail, start):
        return start + len(tail)
    raise TokenizerError(
        f"cannot tell where message {i}, the assistant's, begins",
        where="chat template",
        cure="Put {% generation %} ... {% endgeneration %} around the assistant's turns in it.",
    )


def _turn_end(text: AuthoredText, start: int, i: int, names: Sequence[str]) -> int:
    """Behind the special token after the message; where none follows, behind the message."""
    authors = authors_of(text)
    last = max(authors.rfind(chr(FIRST_MESSAGE + i)) + 1, start)
    following = next((j for j in range(last, len(text)) if authors[j] > TEMPLATE), len(text))
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")
    match = pattern.search(text, last, following)
    return match.end() if match else last
