"""Text that remembers who wrote each of its characters, through all that a template does to it.

A chat template joins its own marks with the words of a user. In the result both are plain
characters, and ``<|im_end|>`` in a user's message looks like the template's own. Here each
character carries the number of its author, and the methods of `str` carry these numbers along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from operator import index
from typing import Any, Self, SupportsIndex

from stemma.errors import TokenizerError

TEMPLATE = "\0"
"""Author: the template itself."""
UNCLEAR = "\1"
"""Author: template and others, mixed in a way that cannot be followed."""
CALLER = "\2"
"""Author: whoever gave the tools and the variables."""
FIRST_MESSAGE = 3
"""Author of message ``i``: ``chr(FIRST_MESSAGE + i)``."""
GENERATED = 0x80000
"""Added to an author inside ``{% generation %}``."""

_ROLE = re.compile(r"[A-Za-z0-9_-]+")


class AuthoredText(str):
    """A `str` with one author (a character, see above) for each of its characters.

    Without ``authors`` all are unclear. A method that is not overridden here returns a plain `str`;
    the environment that runs the template marks such a result (`attributed`).
    """

    __slots__ = ("_authors",)
    _authors: str

    def __new__(cls, text: object = "", authors: str | None = None) -> Self:
        """`text`, all of whose characters are by ``authors``."""
        self = super().__new__(cls, text)
        self._authors = UNCLEAR * len(self) if authors is None else authors
        return self

    def __str__(self) -> str:
        return self

    def __iter__(self) -> Iterator[str]:
        return (AuthoredText(*pair) for pair in zip(str.__str__(self), self._authors, strict=True))

    def __getitem__(self, key: SupportsIndex | slice) -> AuthoredText:
        return AuthoredText(super().__getitem__(key), self._authors[key])

    def __add__(self, other: str) -> AuthoredText:
        if not isinstance(other, str):
            return NotImplemented
        return AuthoredText(super().__add__(other), self._authors + authors_of(other))

    def __radd__(self, other: str) -> AuthoredText:
        return AuthoredText(str.__add__(other, self), authors_of(other) + self._authors)

    def __mul__(self, times: SupportsIndex) -> AuthoredText:
        return AuthoredText(super().__mul__(times), self._authors * times)

    __rmul__ = __mul__

    def strip(self, chars: str | None = None, /) -> AuthoredText:
        """As `str.strip`."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> AuthoredText:
        """As `str.lstrip`."""
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> AuthoredText:
        """As `str.rstrip`."""
        return self[: len(super().rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> AuthoredText:
        """As `str.removeprefix`."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> AuthoredText:
        """As `str.removesuffix`."""
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self

    def upper(self) -> AuthoredText:
        """As `str.upper`."""
        return self._respelled(super().upper())

    def lower(self) -> AuthoredText:
        """As `str.lower`."""
        return self._respelled(super().lower())

    def casefold(self) -> AuthoredText:
        """As `str.casefold`."""
        return self._respelled(super().casefold())

    def capitalize(self) -> AuthoredText:
        """As `str.capitalize`."""
        return self._respelled(super().capitalize())

    def title(self) -> AuthoredText:
        """As `str.title`."""
        return self._respelled(super().title())

    def swapcase(self) -> AuthoredText:
        """As `str.swapcase`."""
        return self._respelled(super().swapcase())

    def _respelled(self, text: str) -> AuthoredText:
        """Other letters in the same places; where their number changed, one author or none."""
        if len(text) == len(self):
            return AuthoredText(text, self._authors)
        return AuthoredText(text, sole_author([self]) * len(text))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> AuthoredText:
        """As `str.replace`."""
        if old:
            return joined(self.split(old, count), new)
        places = range(len(self) + 1)
        parts = [part for i in places for part in (new, self[i : i + 1])]
        n_changed = len(places) if index(count) < 0 else index(count)
        return joined(part for i, part in enumerate(parts) if i % 2 or i // 2 < n_changed)

    def split(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[AuthoredText]:
        """As `str.split`."""
        return self._located(super().split(sep, maxsplit), sep)

    def rsplit(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[AuthoredText]:
        """As `str.rsplit`."""
        return self._located(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[AuthoredText]:  # type: ignore[override]
        """As `str.splitlines`."""
        whole = self._located(super().splitlines(keepends=True), "")
        bare = super().splitlines()
        return whole if keepends else [a[: len(b)] for a, b in zip(whole, bare, strict=True)]

    def partition(self, sep: str, /) -> tuple[AuthoredText, AuthoredText, AuthoredText]:
        """As `str.partition`."""
        head, middle, tail = self._located(list(super().partition(sep)), "")
        return head, middle, tail

    def rpartition(self, sep: str, /) -> tuple[AuthoredText, AuthoredText, AuthoredText]:
        """As `str.rpartition`."""
        head, middle, tail = self._located(list(super().rpartition(sep)), "")
        return head, middle, tail

    def _located(self, pieces: list[str], sep: str | None) -> list[AuthoredText]:
        """Pieces of this text in order, with ``sep`` (any white space if None) between them."""
        found = []
        at = 0
        for piece in pieces:
            at = self.find(piece, at) if sep is None else at
            found.append(self[at : at + len(piece)])
            at += len(piece) + len(sep or "")
        return found

    def join(self, parts: Iterable[str], /) -> AuthoredText:
        """As `str.join`."""
        return joined(parts, self)


def authored_message(message: Mapping[str, Any], i: int) -> dict[str, Any]:
    """A copy of message ``i`` whose texts bear its number; its role counts as the template's.

    Templates make special tokens of roles (``<|user|>``). A role that is not one word of letters,
    digits, ``_`` and ``-`` is text like any other: it could hold a whole special token.

    Raises:
        TokenizerError: if it is not a dict of plain data.
    """
    if not isinstance(message, Mapping):
        raise TokenizerError(
            f"is a {type(message).__name__}",
            where=f"message {i}",
            cure="A message is a dict with 'role' and 'content'.",
        )
    author = chr(FIRST_MESSAGE + i)
    fields = {
        str(key): authored(value, author, f"message {i}, {key}") for key, value in message.items()
    }
    role = message.get("role")
    a_word = isinstance(role, str) and _ROLE.fullmatch(role)
    return fields | {"role": str(role)} if a_word else fields


def authored(value: Any, author: str, where: str) -> Any:
    """A copy of plain data whose texts bear their author.

    Raises:
        TokenizerError: if there is something else in it; ``where`` says what it is part of.
    """
    if isinstance(value, str):
        text = str.__str__(value)
        return AuthoredText(text, author * len(text))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {authored(k, author, where): authored(v, author, where) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [authored(item, author, where) for item in value]
    raise TokenizerError(
        f"holds a {type(value).__name__}",
        where=where,
        cure="A template sees only texts, numbers, lists and dicts.",
    )


def authors_of(text: str) -> str:
    """The authors of a text's characters; a plain `str` is the template's."""
    return text._authors if isinstance(text, AuthoredText) else TEMPLATE * len(text)


def joined(parts: Iterable[str], separator: str = "") -> AuthoredText:
    """``separator.join(parts)``."""
    rows = list(parts)
    authors = authors_of(separator).join(map(authors_of, rows))
    return AuthoredText(str.join(str.__str__(separator), rows), authors)


def attributed(text: str, sources: Iterable[Any]) -> AuthoredText:
    """A text that was made of ``sources`` in a way that is not followed."""
    return AuthoredText(text, sole_author(sources) * len(text))


def is_authored(value: Any) -> bool:
    """Whether there is an `AuthoredText` in a value, at any depth."""
    return any(isinstance(text, AuthoredText) for text in _texts(value))


def sole_author(sources: Iterable[Any]) -> str:
    """The one author of all these values; else the caller, or unclear if the template is one."""
    authors = {
        author for source in sources for text in _texts(source) for author in authors_of(text)
    }
    if len(authors) == 1:
        return authors.pop()
    return UNCLEAR if {TEMPLATE, UNCLEAR} & authors else CALLER


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)
