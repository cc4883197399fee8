r"""Regular expressions as ``tokenizer.json`` means them: those of the Oniguruma library.

They differ from Python's and from tiktoken's in small ways: ``$`` is the end of every line,
``a{2}+`` repeats ``a{2}``, ``\s`` is Unicode's white space, ``\h`` a hexadecimal digit, and ``\w``
takes in ``²``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.json_fields import shown
from stemma.tokenizers.scan.pattern import Unsupported, parse
from stemma.tokenizers.scan.words import python_pattern
from stemma.tokenizers.unicode.classes import Range, complement, in_brackets, ranges

_ESCAPE = r"(?P<escape>\\(?:[pP]\{[^}]*\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|.))"
_ELEMENT = re.compile(
    rf"{_ESCAPE}|(?P<group>\((?:\?(?:[:=!>]|<[=!]|i:|[a-zA-Z<'#-]*))?)"
    r"|(?P<count>\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)\})|.",
    re.DOTALL,
)
_ELEMENT_IN_BRACKETS = re.compile(rf"{_ESCAPE}|(?P<posix>\[:\^?[a-z]+:\])|.", re.DOTALL)
_GROUPS = ("(", "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:")
_ENDS_OF_LINES = {"^": r"(?:\A|(?<=\n)(?!\z))", "$": r"(?![^\n])"}
_ESCAPES_KEPT = frozenset("pPsSdDwWhHxurntfvae0bBAzZR")
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾"
_SHARED = {
    "w": _WORD,
    "h": "0-9A-Fa-f",
    "alpha": r"\p{Alphabetic}",
    "alnum": r"\p{Alphabetic}\p{Nd}",
    "digit": r"\p{Nd}",
    "punct": r"\p{P}\p{S}",
    "space": r"\s",
    "word": r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}",
}
_ZERO_WIDTH = {
    r"\b": rf"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))",
    r"\B": rf"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))",
    r"\Z": r"(?=\n?\z)",
    r"\R": r"(?>\r\n|[\n-\r\x85\u2028\u2029])",
}


@cache
def compile_regex(pattern: str) -> Any:
    """A pattern with a method ``search(text, start)``, as ``re`` has it.

    Patterns with the usual parts are written for ``re``, with the characters of their classes
    spelled out; others need the ``regex`` package, and a warning says that they are slow.

    Raises:
        TokenizerError: if it is no regular expression, or one that is read differently elsewhere.
    """
    text = portable(pattern)
    try:
        return re.compile(python_pattern(parse(text)))
    except Unsupported as reason:
        return compile_slowly(text, str(reason))
    except (re.error, OverflowError, RecursionError) as error:
        raise _no_expression(pattern, error) from None


@cache
def compile_slowly(pattern: str, reason: str = "") -> Any:
    """A pattern for the ``regex`` package, with the characters of its classes spelled out.

    Raises:
        TokenizerError: if it is no regular expression.
    """
    import regex

    try:
        found = regex.compile(_Rewriter(pattern, _SPELLED_OUT).result(), regex.VERSION1)
    except (regex.error, OverflowError, RecursionError, ValueError) as error:
        raise _no_expression(pattern, error) from None
    warnings.warn(
        f"the pattern {shown(pattern)} takes the slow path, the regex package: {reason}",
        stacklevel=2,
    )
    return found


@cache
def portable(pattern: str) -> str:
    r"""An equal pattern that other libraries read in the same way.

    ``$`` becomes ``(?![^\n])``, ``a{2}+`` becomes ``(?:a{2})+``; ``\w``, ``\h`` and the classes of
    POSIX are said with others.

    Raises:
        TokenizerError: if it holds what cannot be said elsewhere (``\K``, ``\G``, ``(?m:...)``).
    """
    return _Rewriter(pattern, _SHARED_DIALECT).result()


def oniguruma_pattern(pattern: str) -> str:
    r"""A pattern of tiktoken's dialect as ``tokenizer.json`` has to write it.

    ``$`` is the end of the text in that dialect, and ``a{1,3}+`` gives nothing back.
    """
    return _Rewriter(pattern, _TO_ONIGURUMA).result()


@dataclass(frozen=True)
class _Dialect:
    """How the parts are written that mean something else elsewhere.

    Args:
        escape: an escape, and whether it stands in brackets -> what replaces it.
        ends: what replaces ``^`` and ``$``.
        repeated: what stands before ``a{2}`` and behind it in place of ``a{2}+``.
        optional: the same in place of ``a{2}?``.
    """

    escape: Callable[[str, bool], str]
    ends: Mapping[str, str]
    repeated: tuple[str, str]
    optional: tuple[str, str]


class _Rewriter:
    """A pattern that is written anew, element by element."""

    def __init__(self, pattern: str, dialect: _Dialect) -> None:
        self._pattern = pattern
        self._dialect = dialect
        self._at = 0
        self._out: list[str] = []
        self._groups: list[int] = []  # where in `_out` the open groups begin
        self._atom = 0  # where in `_out` the last thing that can be repeated begins
        self._depth = 0  # of brackets

    def result(self) -> str:
        while self._at < len(self._pattern):
            if self._depth:
                self._in_brackets()
            else:
                self._outside()
        return "".join(self._out)

    def _next(self, element: re.Pattern[str]) -> tuple[str, str]:
        found = element.match(self._pattern, self._at)
        assert found is not None, "the last alternative takes any character"
        self._at = found.end()
        return found[0], found.lastgroup or ""

    def _outside(self) -> None:
        text, kind = self._next(_ELEMENT)
        if kind == "count":
            self._counted(text)
            return
        if kind == "escape":
            self._new_atom(self._dialect.escape(_checked(text, self._pattern), False))
        elif kind == "group":
            if text not in _GROUPS:
                raise _untranslatable(text, self._pattern)
            self._groups.append(len(self._out))
            self._out.append(text)
        elif text == ")":
            self._atom = self._groups.pop() if self._groups else 0
            self._out.append(text)
        elif text == "[":
            self._new_atom(text)
            self._open_brackets()
        elif text in "*+?|":
            self._out.append(text)
        else:
            braces = {"{": r"\{", "}": r"\}"}
            self._new_atom(self._dialect.ends.get(text) or braces.get(text, text))

    def _new_atom(self, text: str) -> None:
        self._atom = len(self._out)
        self._out.append(text)

    def _counted(self, count: str) -> None:
        following = self._pattern[self._at : self._at + 1]
        if following == "+":
            before, behind = self._dialect.repeated
        elif following == "?" and "," not in count:
            before, behind = self._dialect.optional
        else:
            self._out.append(count)
            return
        self._at += 1
        self._out[self._atom :] = [before, *self._out[self._atom :], count, behind]

    def _open_brackets(self) -> None:
        self._depth += 1
        if self._pattern.startswith("^", self._at):
            self._out.append("^")
            self._at += 1
        if self._pattern.startswith("]", self._at):  # brackets that close at once: a character
            self._out.append(r"\]")
            self._at += 1

    def _in_brackets(self) -> None:
        text, kind = self._next(_ELEMENT_IN_BRACKETS)
        if kind == "escape":
            self._out.append(self._dialect.escape(_checked(text, self._pattern), True))
        elif kind == "posix":
            self._out.append(self._dialect.escape(text, True))
        elif text == "[":
            self._out.append(text)
            self._open_brackets()
        else:
            self._depth -= text == "]"
            # Doubled, these would be operators elsewhere.
            doubled = text in "-~|" and self._out[-1] == text
            self._out.append(rf"\{text}" if doubled else text)


def _checked(escape: str, pattern: str) -> str:
    if escape[1].isalnum() and escape[1] not in _ESCAPES_KEPT:
        raise _untranslatable(escape, pattern)
    return escape


def _no_expression(pattern: str, error: Exception) -> TokenizerError:
    return TokenizerError(f"the pattern {shown(pattern)} is no regular expression: {error}")


def _untranslatable(part: str, pattern: str) -> TokenizerError:
    return TokenizerError(f"the pattern {shown(pattern)} holds {part}, which stemma does not have")


def _said_otherwise(escape: str, inside: bool) -> str:
    """An escape that other libraries would read differently, in terms that all share."""
    if escape in _ZERO_WIDTH and not inside:
        return _ZERO_WIDTH[escape]
    posix = escape.startswith("[:")
    name = escape.strip("[:^]") if posix else escape[1].lower()
    if name == "w" and inside:
        name = "word"  # there, and only there, superscripts are no part of words
    members = _SHARED.get(name) if posix or escape[1] in "wWhH" else None
    if members is None:
        if posix:
            raise TokenizerError(f"a pattern holds {escape}, which stemma does not have")
        return escape
    negative = escape.startswith("[:^") or escape[1].isupper()
    if negative:
        return f"[^{members}]"
    return members if inside else f"[{members}]"


def _spelled_out(escape: str, inside: bool) -> str:
    r"""A class as ranges of characters; ``\z`` and ``\e`` as Python writes them."""
    if escape[1] in "sd":
        members = ranges("White_Space" if escape[1] == "s" else "Nd")
    elif escape[1] in "SD":
        members = complement(ranges("White_Space" if escape[1] == "S" else "Nd"))
    elif escape[1] in "pP":
        members = _property(escape)
    else:
        return {r"\z": r"\Z", r"\e": r"\x1b"}.get(escape, escape)
    return in_brackets(members) if inside else f"[{in_brackets(members)}]"


def _property(escape: str) -> tuple[Range, ...]:
    name = escape[2:].strip("{}")
    negative = escape[1] == "P"
    if name.startswith("^"):
        name, negative = name[1:], not negative
    try:
        members = ranges(name)
    except KeyError:
        raise TokenizerError(f"a pattern holds {escape}, which stemma does not have") from None
    return complement(members) if negative else members


_SHARED_DIALECT = _Dialect(_said_otherwise, _ENDS_OF_LINES, ("(?:", ")+"), ("(?:", ")?"))
_SPELLED_OUT = _Dialect(_spelled_out, {}, ("(?>", ")"), ("", ""))
_TO_ONIGURUMA = _Dialect(lambda escape, _: escape, {"^": r"\A", "$": r"\z"}, ("(?>", ")"), ("", ""))
