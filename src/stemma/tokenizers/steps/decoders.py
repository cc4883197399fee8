"""Joining tokens to a text, in the ways that ``tokenizer.json`` knows by name.

A decoder is a chain of steps over the list of all tokens (`Decoder.join`). What a token adds to a
text can be told from the token and from whether it is the first (`Decoder.piece`). Only the space
behind a word's last piece (`BPEDecoder`) depends on whether anything follows.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stemma.tokenizers.json_fields import Fields, read_by_type
from stemma.tokenizers.steps.pre_tokenizers import PrependScheme, read_metaspace

_BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
_CONTRACTIONS = ((b" ' ", b"'"), (b" n't", b"n't"), (b" 'm", b"'m"), (b" do not", b" don't"))
_CLEANED = (
    *((b" " + mark, mark) for mark in (b".", b"?", b"!", b",")),
    *_CONTRACTIONS,
    *((b" " + ending, ending) for ending in (b"'s", b"'ve", b"'re")),
)
"""What English writes without the space that joining words puts there, in this order."""


class Decoder(ABC):
    """Joins tokens to a text."""

    def join(self, tokens: Iterable[bytes]) -> bytes:
        """The text of all tokens."""
        first, *others = [*tokens] or [b""]
        pieces = {token: self.piece(token, first=False) for token in {*others}}
        return self.piece(first, first=True) + b"".join(map(pieces.__getitem__, others))

    @abstractmethod
    def piece(self, token: bytes, *, first: bool) -> bytes:
        """What a token adds to a text, at its beginning or further on; may be empty."""

    def to_json(self) -> dict[str, Any] | None:
        """The decoder as ``tokenizer.json`` writes it."""
        return {"type": type(self).__name__, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Spaces(Decoder):
    """A space between tokens: what is done where a file names no decoder."""

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token, after a space."""
        return token if first else b" " + token

    def to_json(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class WordPiece(Decoder):
    """A space before every token that begins a word.

    Args:
        prefix: how the others begin; it is left out.
        cleanup: no space before marks of punctuation and English contractions.
    """

    prefix: str = "##"
    cleanup: bool = True

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token without its prefix, or after a space."""
        prefix = self.prefix.encode()
        if not first:
            token = token.removeprefix(prefix) if token.startswith(prefix) else b" " + token
        if self.cleanup:
            for spaced, closed in _CLEANED:
                token = token.replace(spaced, closed)
        return token


@dataclass(frozen=True)
class Metaspace(Decoder):
    """Spaces for the character that was written for them.

    Args:
        replacement: the character.
        prepend_scheme: ``never`` if none was put before the text; else the first token's stand for
            nothing.
        split_words: kept for the file.
    """

    replacement: str = "▁"
    prepend_scheme: PrependScheme = "always"
    split_words: bool = True

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token with its spaces."""
        silent = first and self.prepend_scheme != "never"
        return token.replace(self.replacement.encode(), b"" if silent else b" ")

    def _fields(self) -> dict[str, Any]:
        return {
            "replacement": self.replacement,
            "prepend_scheme": self.prepend_scheme,
            "split": self.split_words,
        }


@dataclass(frozen=True)
class BPEDecoder(Decoder):
    """A space behind every token that ends a word, if another token follows.

    Args:
        suffix: how these tokens end; it is left out.
    """

    suffix: str = "</w>"

    def join(self, tokens: Iterable[bytes]) -> bytes:
        """The text of all tokens, without a space at its end."""
        *others, last = [*tokens] or [b""]
        suffix = self.suffix.encode()
        return super().join(others) + last.replace(suffix, b"")

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token, and the space that follows if another token does."""
        return token.replace(self.suffix.encode(), b" ")


@dataclass(frozen=True)
class Replace(Decoder):
    """One text for another, within each token.

    Args:
        pattern: the text to be replaced.
        content: what replaces it.
    """

    pattern: str
    content: str

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token with its replacements."""
        return token.replace(self.pattern.encode(), self.content.encode())

    def _fields(self) -> dict[str, Any]:
        return {"pattern": {"String": self.pattern}, "content": self.content}


@dataclass(frozen=True)
class ByteFallback(Decoder):
    """The byte that a token like ``<0x0A>`` names.

    Bytes that are no UTF-8 stay as they are, and it is `Tokenizer.decode` that replaces them.
    """

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The byte, or the token."""
        byte = _BYTE.fullmatch(token)
        return bytes.fromhex(byte[1].decode()) if byte else token


@dataclass(frozen=True)
class Fuse(Decoder):
    """All tokens become one, for the steps that follow."""

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token."""
        return token


@dataclass(frozen=True)
class Strip(Decoder):
    """Takes a character from the ends of each token.

    Args:
        content: the character.
        start: how often at most from the beginning.
        stop: how often at most from the end.
    """

    content: str = " "
    start: int = 0
    stop: int = 0

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """The token without them."""
        mark = self.content.encode()
        for _ in range(self.start):
            token = token.removeprefix(mark)
        for _ in range(self.stop):
            token = token.removesuffix(mark)
        return token


@dataclass(frozen=True)
class Sequence(Decoder):
    """One step after another.

    Args:
        steps: the steps.
    """

    steps: tuple[Decoder, ...] = ()

    def join(self, tokens: Iterable[bytes]) -> bytes:
        """The text of all tokens."""
        found = [*tokens]
        for step in self.steps:
            if isinstance(step, Fuse):
                found = [b"".join(found)]
            elif isinstance(step, BPEDecoder):
                found = [step.piece(token, first=False) for token in found[:-1]] + [
                    step.join([token]) for token in found[-1:]
                ]
            else:
                found = [step.piece(token, first=i == 0) for i, token in enumerate(found)]
        return b"".join(found)

    def piece(self, token: bytes, *, first: bool) -> bytes:
        """What all steps make of the token; behind `Fuse` only the first has a beginning."""
        fused = False
        for step in self.steps:
            fused |= isinstance(step, Fuse)
            if first or not fused or not isinstance(step, Strip):
                token = step.piece(token, first=first)
        return token

    def _fields(self) -> dict[str, Any]:
        return {"decoders": [step.to_json() for step in self.steps]}


def from_json(step: Any, where: str = "decoder") -> Decoder:
    """Read a decoder as ``tokenizer.json`` writes it.

    Raises:
        TokenizerError: if there is no such step here, or a value of it makes no sense.
    """
    if step is None and where == "decoder":
        return Spaces()
    return read_by_type(step, where, _READERS)


def _read_replace(fields: Fields) -> Decoder:
    pattern = fields.inner("pattern")
    if pattern.one_of("String", "Regex") == "Regex":
        raise pattern.unsupported("Regex")
    text = pattern.text("String")
    if not text:
        raise pattern.unsupported("String")
    pattern.done()
    return Replace(text, fields.text("content"))


def _read_metaspace(fields: Fields) -> Decoder:
    read = read_metaspace(fields)
    return Metaspace(read.replacement, read.prepend_scheme, read.split_words)


def _read_strip(fields: Fields) -> Decoder:
    return Strip(fields.character("content"), fields.number("start"), fields.number("stop"))


def _read_sequence(fields: Fields) -> Decoder:
    return Sequence(tuple(from_json(step, where) for where, step in fields.items("decoders")))


_READERS: dict[str, Callable[[Fields], Decoder]] = {
    "BPEDecoder": lambda fields: BPEDecoder(fields.text("suffix", "</w>")),
    "ByteFallback": lambda _: ByteFallback(),
    "Fuse": lambda _: Fuse(),
    "Metaspace": _read_metaspace,
    "Replace": _read_replace,
    "Sequence": _read_sequence,
    "Strip": _read_strip,
    "WordPiece": lambda fields: WordPiece(fields.text("prefix"), fields.flag("cleanup")),
}
