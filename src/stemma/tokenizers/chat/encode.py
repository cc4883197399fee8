"""Authored text -> ids: special tokens only where the template wrote them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.text import GENERATED, TEMPLATE, UNCLEAR, AuthoredText, authors_of
from stemma.tokenizers.rows import concatenate
from stemma.tokenizers.texts import check_text

if TYPE_CHECKING:
    from stemma.tokenizers.rows import Spans
    from stemma.tokenizers.special import AddedToken, Part
    from stemma.tokenizers.tokenizer import Tokenizer

_TEMPLATE = {TEMPLATE, chr(ord(TEMPLATE) | GENERATED)}
_UNCLEAR = {UNCLEAR, chr(ord(UNCLEAR) | GENERATED)}


def encode_authored(
    tokenizer: Tokenizer, text: AuthoredText, *, trust_all: bool, cuts: Iterable[int] = ()
) -> NDArray[np.int32]:
    """Ids of a rendered conversation.

    Args:
        tokenizer: its added tokens that are not special are found anywhere, as `encode` does.
        text: the rendered conversation.
        trust_all: find special tokens anywhere.
        cuts: places of the text that no token may reach over.

    Raises:
        TokenizerError: if it is unclear who wrote a special token's name.
    """
    always = tokenizer._added.always
    return concatenate(
        tokenizer._encode_normalized(part, always, at_start=start == 0)
        if isinstance(part, str)
        else [part]
        for part, start, _ in _parts(tokenizer, text, trust_all, cuts)
    )


def encode_authored_with_spans(
    tokenizer: Tokenizer, text: AuthoredText, *, trust_all: bool, cuts: Iterable[int] = ()
) -> tuple[NDArray[np.int32], Spans]:
    """`encode_authored`, and the characters ``start:end`` of each token, of shape (n, 2)."""
    always = tokenizer._added.always
    ids: list[NDArray[np.int32]] = []
    spans: list[Spans] = [np.empty((0, 2), np.int64)]
    for part, start, end in _parts(tokenizer, text, trust_all, cuts):
        if isinstance(part, str):
            found, where = tokenizer._encode_aligned(part, always, at_start=start == 0)
            ids.append(found)
            spans.append(_in_characters(where, part) + start)
        else:
            ids.append(np.array([part], np.int32))
            spans.append(np.array([[start, end]], np.int64))
    return concatenate(ids), np.concatenate(spans)


def mask_of(characters: NDArray[np.bool_], spans: Spans) -> NDArray[np.bool_]:
    """Which tokens hold one of the chosen characters."""
    before = np.concatenate([[0], np.cumsum(characters)])
    return before[spans[:, 1]] > before[spans[:, 0]]


def _parts(
    tokenizer: Tokenizer, text: AuthoredText, trust_all: bool, cuts: Iterable[int]
) -> Iterator[tuple[Part, int, int]]:
    """The text cut at its added tokens and at ``cuts``: parts with start and end, in order.

    Where others wrote a special token's name it is text. Special tokens that are meant to be found
    in the normalised text are found here already: there it is no longer known who wrote them.
    """

    def accept(token: AddedToken, start: int, end: int) -> bool:
        return trust_all or not token.special or _template_wrote(token, text, start, end)

    plain = str.__str__(text)
    check_text(plain)
    added = tokenizer._added
    names = frozenset(t.content for t in added.tokens if t.special or not t.normalized)
    edges = sorted(cuts)
    for part, start, end in added.split(plain, names, normalized=None, accept=accept):
        if isinstance(part, int):
            yield part, start, end
            continue
        inner = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        for a, b in pairwise([start, *inner, end]):
            yield plain[a:b], a, b


def _template_wrote(token: AddedToken, text: AuthoredText, start: int, end: int) -> bool:
    authors = {*authors_of(text)[start:end]}
    if authors & _UNCLEAR:
        raise TokenizerError(
            f"cannot tell whether the template or a message wrote {token.content!r}",
            where=f"chat template, character {start} of the conversation",
            cure="In Python give allow_special_in_content=True if all messages can be trusted.",
        )
    return authors <= _TEMPLATE


def _in_characters(spans: Spans, text: str) -> Spans:
    """Spans of bytes -> spans of the characters that these bytes belong to."""
    if text.isascii():
        return spans
    character_of = np.repeat(np.arange(len(text)), [len(c.encode()) for c in text])
    character_of = np.append(character_of, len(text))
    starts = character_of[spans[:, 0]]
    ends = np.where(
        spans[:, 1] > spans[:, 0], character_of[np.maximum(spans[:, 1] - 1, 0)] + 1, starts
    )
    return np.stack([starts, ends], axis=1)
