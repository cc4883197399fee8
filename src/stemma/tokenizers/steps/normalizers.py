"""What is done to a text before it is cut into tokens: ``Héllo`` and ``hello`` may be one word.

Each normaliser does exactly what the one of its name does in Hugging Face's ``tokenizers`` 0.23,
down to the version of Unicode (see `stemma.tokenizers.unicode.properties`), and is written into
``tokenizer.json`` and read from it as there. It also tells where each character came from, so that
a token can be pointed to in the text as it was given.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.json_fields import Fields
from stemma.tokenizers.steps.alignment import Edit
from stemma.tokenizers.steps.bert_normalizer import BertNormalizer
from stemma.tokenizers.steps.charsmap import CharsMap
from stemma.tokenizers.steps.normalizer import (
    ByCharacter,
    ByCluster,
    Editing,
    Normalizer,
    Sequence,
)
from stemma.tokenizers.steps.oniguruma import compile_regex
from stemma.tokenizers.steps.unicode_normalizers import (
    NFC,
    NFD,
    NFKC,
    NFKD,
    Lowercase,
    StripAccents,
)
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.unicode import classes

__all__ = [
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "BertNormalizer",
    "Lowercase",
    "Nmt",
    "Normalizer",
    "Precompiled",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
    "from_json",
]

_SPACES = " {2,}"
"""Several spaces as a regular expression."""

_NMT = re.compile(
    "[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]+"
    "|(?P<space>[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd])"
)


@dataclass(frozen=True)
class Strip(Editing):
    """Without white space at the ends.

    Args:
        left: at the beginning.
        right: at the end.
    """

    left: bool = True
    right: bool = True

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """Behind a visible character; white space may be that of the text's ends."""
        space = _white_space()
        if left[-1:] in space:
            return None
        return left.lstrip(space), right.rstrip(space)

    def _edits(self, text: str) -> Iterator[Edit]:
        space = _white_space()
        start = len(text) - len(text.lstrip(space)) if self.left else 0
        end = max(start, len(text.rstrip(space))) if self.right else len(text)
        if start:
            yield 0, start, ""
        if end < len(text):
            yield end, len(text), ""

    def _settings(self) -> dict[str, Any]:
        return {"strip_left": self.left, "strip_right": self.right}


@dataclass(frozen=True)
class Prepend(Editing):
    """With something before it, unless the text is empty.

    Args:
        prepend: what.

    Raises:
        TokenizerError: if it holds a lone surrogate.
    """

    prepend: str

    def __post_init__(self) -> None:
        check_text(self.prepend)

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """Anywhere: what is put before the text is far away."""
        return left, right

    def _edits(self, text: str) -> Iterator[Edit]:
        if text:
            yield 0, 0, self.prepend

    def _settings(self) -> dict[str, Any]:
        return {"prepend": self.prepend}


@dataclass(frozen=True)
class Replace(Editing):
    """With something in place of every match of a pattern; an empty text stays empty.

    Args:
        pattern: a string, or a regular expression as the Oniguruma library reads it.
        content: what takes the place of a match, as it stands.
        is_regex: whether the pattern is a regular expression.

    Raises:
        TokenizerError: if it is no regular expression, or one that means something else here; or if
            a text holds a lone surrogate.
    """

    pattern: str
    content: str
    is_regex: bool = False

    def __post_init__(self) -> None:
        check_text(self.pattern)
        check_text(self.content)
        if self.is_regex:
            compile_regex(self.pattern)

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """Where the pattern is one character, or none of its characters is near.

        Of regular expressions the one that SentencePiece's models come with is known.
        """
        if self.is_regex:
            apart = self.pattern == _SPACES and left[-1:] not in ("", " ")
            return (self(left.lstrip(" ")), self(right.rstrip(" "))) if apart else None
        if len(self.pattern) == 1:
            return self(left), self(right)
        near = left and self.pattern and {*self.pattern} & {*left, *right}
        return (left, right) if near == set() else None

    def _change(self, text: str) -> str:
        if self.is_regex:
            return super()._change(text)
        return text.replace(self.pattern, self.content) if text else ""

    def _edits(self, text: str) -> Iterator[Edit]:
        compiled = compile_regex(self.pattern) if self.is_regex else _literal(self.pattern)
        at, done = 0, -1
        while text and at <= len(text) and (match := compiled.search(text, at)):
            start, end = match.span()
            if start == end == done:  # nothing, just where the match before ended, is none
                at += 1
                continue
            at = done = end
            yield start, end, self.content

    def _settings(self) -> dict[str, Any]:
        kind = "Regex" if self.is_regex else "String"
        return {"pattern": {kind: self.pattern}, "content": self.content}


@dataclass(frozen=True)
class Nmt(ByCharacter, Editing):
    """Without control characters, and with a space for each special kind of white space.

    A part of the rule that SentencePiece calls ``nmt_nfkc``.
    """

    def _edits(self, text: str) -> Iterator[Edit]:
        for match in _NMT.finditer(text):
            yield *match.span(), " " if match.lastgroup else ""


@dataclass(frozen=True)
class Precompiled(ByCluster, Editing):
    """SentencePiece's character map, as Hugging Face applies it (see `steps.charsmap`).

    Args:
        charsmap: its bytes.

    Raises:
        TokenizerError: if they are no such map.
    """

    charsmap: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.charsmap:
            raise TokenizerError("the character map is empty", where="Precompiled")
        _ = self._map

    @cached_property
    def _map(self) -> CharsMap:
        return CharsMap(self.charsmap)

    def _edits(self, text: str) -> Iterator[Edit]:
        return self._map.edits_by_cluster(text)

    def _settings(self) -> dict[str, Any]:
        encoded = base64.b64encode(self.charsmap).decode()
        return {"precompiled_charsmap": encoded}


def from_json(values: Any, where: str = "normalizer") -> Normalizer:
    """The normaliser that an object of ``tokenizer.json`` describes.

    Args:
        values: the object.
        where: its place in the file, for messages.

    Raises:
        TokenizerError: if it names a normaliser, or asks for something, that stemma does not have.
    """
    fields = Fields(values, where)
    kind = fields.type
    if kind not in _READERS:
        names = ", ".join(_READERS)
        raise fields.unsupported(cure=f"Use the tokenizers library for this file. Known: {names}.")
    try:
        normalizer = _READERS[kind](fields)
    except TokenizerError as error:
        raise (
            error if error.where else TokenizerError(error.what, where=where, cure=error.cure)
        ) from None
    fields.done()
    return normalizer


def _read_bert(fields: Fields) -> Normalizer:
    accents = fields.value("strip_accents", None)
    return BertNormalizer(
        fields.flag("clean_text"),
        fields.flag("handle_chinese_chars"),
        None if accents is None else fields.flag("strip_accents"),
        fields.flag("lowercase"),
    )


def _read_replace(fields: Fields) -> Normalizer:
    pattern = fields.inner("pattern")
    kind = pattern.one_of("String", "Regex")
    text = pattern.text(kind)
    pattern.done()
    return Replace(text, fields.text("content"), is_regex=kind == "Regex")


def _read_precompiled(fields: Fields) -> Normalizer:
    encoded = fields.text("precompiled_charsmap")
    try:
        return Precompiled(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise TokenizerError("precompiled_charsmap is not base64", where=fields.where) from None


_READERS: Mapping[str, Callable[[Fields], Normalizer]] = {
    "NFC": lambda _: NFC(),
    "NFD": lambda _: NFD(),
    "NFKC": lambda _: NFKC(),
    "NFKD": lambda _: NFKD(),
    "Lowercase": lambda _: Lowercase(),
    "StripAccents": lambda _: StripAccents(),
    "Strip": lambda fields: Strip(fields.flag("strip_left"), fields.flag("strip_right")),
    "Prepend": lambda fields: Prepend(fields.text("prepend")),
    "Replace": _read_replace,
    "BertNormalizer": _read_bert,
    "Nmt": lambda _: Nmt(),
    "Precompiled": _read_precompiled,
    "Sequence": lambda fields: Sequence(
        [from_json(values, where) for where, values in fields.items("normalizers")]
    ),
}


@cache
def _literal(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern))


@cache
def _white_space() -> str:
    spaces = classes.ranges("White_Space")
    return "".join(chr(code) for first, last in spaces for code in range(first, last + 1))
