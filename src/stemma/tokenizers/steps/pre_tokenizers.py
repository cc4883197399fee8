"""Cutting a text into words, in the ways that ``tokenizer.json`` knows by name.

Each does what the step of that name does in Hugging Face's ``tokenizers`` library, to the
character. ``ByteLevel`` is not among them: byte-level BPE cuts and spells words by itself.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from stemma.errors import TokenizerError
from stemma.tokenizers.json_fields import Fields, read_by_type
from stemma.tokenizers.steps.oniguruma import compile_regex
from stemma.tokenizers.steps.pre_tokenizer_classes import (
    digits,
    punctuation,
    spaces,
    word_characters,
)
from stemma.tokenizers.steps.separators import BEHAVIORS, Behavior, Piece, Span, pieces
from stemma.tokenizers.wordwise import Word

CUT = "", ""
"""What stands within a word beside a place where words end: nothing."""

PrependScheme = Literal["first", "never", "always"]


class PreTokenizer(ABC):
    """Cuts a text into words."""

    def split(self, text: str, *, at_start: bool = True) -> list[Word]:
        """The words of ``text`` in order, each with its characters ``start:end`` of ``text``.

        Args:
            text: any text.
            at_start: nothing precedes the text.
        """
        return self._cut(Word(text, 0, len(text)), at_start=at_start) if text else []

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """The two characters of a word between which a place may be; two empty ones if none is.

        None if it is not certain that the words on both sides are the same if the text is cut at
        the place, and continued as one that something precedes.

        Args:
            before: the character before the place; empty if it is not known.
            after: the character behind it.
        """
        return None

    def to_json(self) -> dict[str, Any]:
        """The step as ``tokenizer.json`` writes it."""
        return {"type": type(self).__name__, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        return dict(vars(self))

    @abstractmethod
    def _cut(self, word: Word, *, at_start: bool) -> list[Word]:
        """The words of a word that another step has cut."""


class _Matching(PreTokenizer):
    """Every match of a pattern is a word; what lies between is left out."""

    def _cut(self, word: Word, *, at_start: bool) -> list[Word]:
        matches = self._pattern().finditer(word.text)
        return _words(word, (match.span() for match in matches))

    @abstractmethod
    def _pattern(self) -> re.Pattern[str]:
        """What a word is."""


class _Visible(_Matching):
    """A pattern that no white space matches."""

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """Beside white space."""
        return CUT if _compile(f"[{spaces()}]").search(before + after) else None


@dataclass(frozen=True)
class Whitespace(_Visible):
    """Runs of letters, digits and underscores; runs of other visible characters."""

    def _pattern(self) -> re.Pattern[str]:
        return _compile(f"[{word_characters()}]+|[^{word_characters()}{spaces()}]+")


@dataclass(frozen=True)
class WhitespaceSplit(_Visible):
    """What white space separates."""

    def _pattern(self) -> re.Pattern[str]:
        return _compile(f"[^{spaces()}]+")


@dataclass(frozen=True)
class BertPreTokenizer(_Visible):
    """What white space separates, and every mark of punctuation by itself."""

    def _pattern(self) -> re.Pattern[str]:
        return _compile(f"[{punctuation()}]|[^{punctuation()}{spaces()}]+")


@dataclass(frozen=True)
class CharDelimiterSplit(_Matching):
    """What a character separates.

    Args:
        delimiter: one character.
    """

    delimiter: str

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """Beside the delimiter."""
        return CUT if self.delimiter in (before, after) else None

    def _pattern(self) -> re.Pattern[str]:
        return _compile(f"[^{re.escape(self.delimiter)}]+")


@dataclass(frozen=True)
class Digits(_Matching):
    """Numbers apart from everything else.

    Args:
        individual_digits: every digit is a word; else every number.
    """

    individual_digits: bool = False

    def _pattern(self) -> re.Pattern[str]:
        number = f"[{digits()}]" + ("" if self.individual_digits else "+")
        return _compile(f"{number}|[^{digits()}]+")


@dataclass(frozen=True)
class FixedLength(_Matching):
    """So many characters at a time.

    Args:
        length: their number; the last word may be shorter.
    """

    length: int = 5

    def _pattern(self) -> re.Pattern[str]:
        return _compile(f"(?s:.){{1,{self.length}}}")


class _Separating(PreTokenizer):
    """Cuts at separators, with which it does as its behavior says."""

    behavior: Behavior

    def _cut(self, word: Word, *, at_start: bool) -> list[Word]:
        return _words(word, BEHAVIORS[self.behavior](self._pieces(word.text)))

    @abstractmethod
    def _pieces(self, text: str) -> list[Piece]:
        """Separators and what lies between them, without a gap."""


@dataclass(frozen=True)
class Punctuation(_Separating):
    """Cuts at every mark of punctuation.

    Args:
        behavior: what becomes of the marks.
    """

    behavior: Behavior = "Isolated"

    def _pieces(self, text: str) -> list[Piece]:
        return pieces(text, _compile(f"[{punctuation()}]"))


@dataclass(frozen=True)
class Split(_Separating):
    """Cuts at the matches of a pattern.

    Args:
        pattern: a text, or a regular expression.
        is_regex: which of these.
        behavior: what becomes of the matches.
        invert: the matches are the words, and what lies between them are the separators.
    """

    pattern: str
    is_regex: bool
    behavior: Behavior
    invert: bool = False

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """Anywhere, if one character separates."""
        return (before, after) if len(self.pattern) == 1 and not self.is_regex else None

    def _pieces(self, text: str) -> list[Piece]:
        regex = compile_regex(self.pattern) if self.is_regex else _compile(re.escape(self.pattern))
        found = pieces(text, regex)
        return [(a, b, not match) for a, b, match in found] if self.invert else found

    def _fields(self) -> dict[str, Any]:
        return {
            "pattern": {"Regex" if self.is_regex else "String": self.pattern},
            "behavior": self.behavior,
            "invert": self.invert,
        }


@dataclass(frozen=True)
class Metaspace(PreTokenizer):
    """Writes spaces as a visible character, with which words begin.

    Args:
        replacement: the character that stands for a space.
        prepend_scheme: where one more is put before the text: ``first`` at its beginning,
            ``always`` also after every added token; not where one stands already.
        split_words: cut before every replacement.
    """

    replacement: str = "▁"
    prepend_scheme: PrependScheme = "always"
    split_words: bool = True

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """Before a space: nothing is put before it."""
        if after not in (" ", self.replacement):
            return None
        return (
            CUT if self.split_words else (before.replace(" ", self.replacement), self.replacement)
        )

    def _cut(self, word: Word, *, at_start: bool) -> list[Word]:
        text = word.text.replace(" ", self.replacement)
        if self._prepends(at_start=at_start and word.start == 0):
            text = text if text.startswith(self.replacement) else self.replacement + text
        whole = Word(text, word.start, word.end)
        if not self.split_words:
            return [whole]
        mark = re.escape(self.replacement)
        matches = _compile(f"{mark}[^{mark}]*|[^{mark}]+").finditer(text)
        return _words(whole, (match.span() for match in matches))

    def _prepends(self, *, at_start: bool) -> bool:
        return self.prepend_scheme == "always" or (self.prepend_scheme == "first" and at_start)

    def _fields(self) -> dict[str, Any]:
        return {
            "replacement": self.replacement,
            "prepend_scheme": self.prepend_scheme,
            "split": self.split_words,
        }


@dataclass(frozen=True)
class Sequence(PreTokenizer):
    """One step after another, each within the words of the one before.

    Args:
        steps: the steps; none leaves the text whole.
    """

    steps: tuple[PreTokenizer, ...] = ()

    def edge(self, before: str, after: str) -> tuple[str, str] | None:
        """Where the first step cuts that does not leave both sides in one word."""
        sides: tuple[str, str] | None = before, after
        for step in self.steps:
            if sides is None or sides == CUT:
                break
            sides = step.edge(*sides)
        return sides

    def _cut(self, word: Word, *, at_start: bool) -> list[Word]:
        words = [word]
        for step in self.steps:
            words = [part for one in words for part in step._cut(one, at_start=at_start)]
        return words

    def _fields(self) -> dict[str, Any]:
        return {"pretokenizers": [step.to_json() for step in self.steps]}


def _words(word: Word, spans: Iterable[Span]) -> list[Word]:
    """Parts of a word, with what they stand for in the text.

    Where the word is longer than what it stands for, the surplus is in front of it.
    """
    text, start, end = word
    surplus = len(text) - (end - start)
    at = start - surplus
    if not surplus:
        return [Word(text[a:b], at + a, at + b) for a, b in spans if a < b]
    return [Word(text[a:b], max(at + a, start), max(at + b, start)) for a, b in spans if a < b]


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def from_json(step: Any, where: str = "pre_tokenizer") -> PreTokenizer:
    """Read a step as ``tokenizer.json`` writes it.

    Raises:
        TokenizerError: if there is no such step here, or a value of it makes no sense.
    """
    return read_by_type(step, where, _READERS)


def _read_split(fields: Fields) -> PreTokenizer:
    pattern = fields.inner("pattern")
    kind = pattern.one_of("String", "Regex")
    text = pattern.text(kind)
    pattern.done()
    if kind == "Regex":
        compile_regex(text)
    return Split(text, kind == "Regex", _behavior(fields), fields.flag("invert"))


def read_metaspace(fields: Fields) -> Metaspace:
    """Read the fields that the pre-tokeniser and the decoder of this name have in common."""
    # Files before version 0.15 of the library have the flag, and some later ones have both.
    adds = fields.flag("add_prefix_space", default=True)
    stated = "always" if adds else "never"
    scheme = fields.choice("prepend_scheme", get_args(PrependScheme), stated)
    if not adds and scheme != "never":
        raise TokenizerError(f"{fields.where}: add_prefix_space and prepend_scheme contradict")
    fields.ignore("str_rep")
    return Metaspace(fields.character("replacement"), scheme, fields.flag("split", default=True))


def _read_sequence(fields: Fields) -> PreTokenizer:
    steps = fields.items("pretokenizers")
    return Sequence(tuple(from_json(step, where) for where, step in steps))


def _behavior(fields: Fields, default: Any = None) -> Behavior:
    behavior: Behavior = fields.choice("behavior", get_args(Behavior), default)
    return behavior


_READERS: dict[str, Callable[[Fields], PreTokenizer]] = {
    "BertPreTokenizer": lambda _: BertPreTokenizer(),
    "CharDelimiterSplit": lambda fields: CharDelimiterSplit(fields.character("delimiter")),
    "Digits": lambda fields: Digits(fields.flag("individual_digits", False)),
    "FixedLength": lambda fields: FixedLength(fields.number("length", 5, least=1)),
    "Metaspace": read_metaspace,
    "Punctuation": lambda fields: Punctuation(_behavior(fields, "Isolated")),
    "Sequence": _read_sequence,
    "Split": _read_split,
    "Whitespace": lambda _: Whitespace(),
    "WhitespaceSplit": lambda _: WhitespaceSplit(),
}
