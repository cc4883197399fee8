"""Authored text -> ids: special tokens only where the template wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.text import GENERATED, TEMPLATE, UNCLEAR, AuthoredText, authors_of
from stemma.tokenizers.rows import concatenate
from stemma.tokenizers.special import _is_word, _spaces
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
    """The text cut at its added tokens and at ``cuts``: parts with start and end, in order."""
    plain = str.__str__(text)
    check_text(plain)
    edges: list[tuple[int, int, int | None]] = [(at, at, None) for at in (*cuts, len(plain))]
    edges += [(start, end, token.id) for token, start, end in _added_in(tokenizer, text, trust_all)]
    done = 0
    for start, end, id_ in sorted(edges, key=lambda edge: edge[:2]):
        if start > done:
            yield plain[done:start], done, start
        if id_ is not None:
            yield id_, start, end
        done = max(done, end)


def _added_in(
    tokenizer: Tokenizer, text: AuthoredText, trust_all: bool
) -> Iterator[tuple[AddedToken, int, int]]:
    """The added tokens in the text, those of others left out: token, start and end."""
    added = tokenizer._added
    plain = str.__str__(text)
    wanted = [t for t in added.tokens if t.special or not t.normalized]
    longest_first = sorted((t.content for t in wanted), key=lambda name: (-len(name), name))
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    done = at = 0
    while match := pattern.search(plain, at):
        start = at = match.start()
        # All names that begin here begin the longest one: the first that may stand here is it.
        for name in (n for n in longest_first if plain.startswith(n, start)):
            token, end = added.by_content[name], start + len(name)
            if _may_stand(token, text, start, end, trust_all):
                start, end = _with_space(token, plain, done, start, end)
                yield token, start, end
                done = at = end
                break
        else:
            at += 1


def _may_stand(
    token: AddedToken, text: AuthoredText, start: int, end: int, trust_all: bool
) -> bool:
    if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])):
        return False
    if trust_all or not token.special:
        return True
    authors = {*authors_of(text)[start:end]}
    if authors & _UNCLEAR:
        raise TokenizerError(
            f"cannot tell whether the template or a message wrote {token.content!r}",
            where=f"chat template, character {start} of the conversation",
            cure="Use allow_special_in_content=True if all messages can be trusted.",
        )
    return authors <= _TEMPLATE


def _with_space(token: AddedToken, text: str, done: int, start: int, end: int) -> tuple[int, int]:
    """The stretch of a token that takes white space beside it along."""
    while token.lstrip and start > done and text[start - 1] in _spaces():
        start -= 1
    while token.rstrip and end < len(text) and text[end] in _spaces():
        end += 1
    return start, end


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
