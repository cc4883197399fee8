"""Unicode normal forms, as Unicode 9.0 has them.

The same text can be written in several ways: ``é`` is one character or two. A normal form (UAX #15)
chooses one of them. Python's `unicodedata` does the work; but the normal forms of Hugging Face's
``tokenizers`` know no character younger than Unicode 9.0 (2016), so here too these stay as they
are. That is no loss to exactness: what normalisation does to a character never changes once the
character exists (the Unicode Consortium's stability policy), and a character that it does not know
can neither be decomposed, nor joined with another, nor passed by a mark.

`normalize` is the fast way. `align` also tells which characters each one came from, for which the
algorithm has to be gone through step by step.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple, TypeVar

from stemma.tokenizers.steps.alignment import Alignment, rising, unchanged
from stemma.tokenizers.unicode.classes import ranges
from stemma.tokenizers.unicode.properties import one_of, with_property

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
"""Composed or decomposed; with ``K``, variants of a character (``ﬁ``, ``²``) give way to it too."""

_STRETCH = re.compile("[\0-\x7f]?[^\0-\x7f]+")
"""Characters that can affect one another: before and after an ASCII character a text can be cut."""


T = TypeVar("T")


class _Placed(NamedTuple):
    """A character and the characters ``start:end`` of the text that it came from."""

    text: str
    start: int
    end: int


def normalize(form: Form, text: str) -> str:
    """The normal form of a text."""
    if text.isascii():
        return text
    # Python puts marks in order in n² steps: long runs are in order before it sees them.
    text = _long_runs().sub(_run_in_order, text)
    if _young().search(text) is None:
        return unicodedata.normalize(form, text)
    return "".join(
        part if young else unicodedata.normalize(form, part) for part, young in _parts(text)
    )


def align(form: Form, text: str) -> tuple[str, Alignment]:
    """The normal form, and for each of its characters the characters ``start:end`` of ``text``.

    Marks that change places stand for all the characters among which they did.
    """
    parts: list[str] = []
    alignment: Alignment = []
    done = 0
    for match in _STRETCH.finditer(text):
        stretch, (start, end) = match[0], match.span()
        if normalize(form, stretch) == stretch:
            continue
        placed = list(_normalized(form, stretch))
        parts += [text[done:start], *(one.text for one in placed)]
        alignment += unchanged(done, start)
        alignment += rising([(start + one.start, start + one.end) for one in placed])
        done = end
    alignment += unchanged(done, len(text))
    return "".join([*parts, text[done:]]), alignment


def _normalized(form: Form, text: str) -> Iterator[_Placed]:
    """The algorithm of UAX #15, section 1.3: decompose, put marks in order, compose."""
    decomposed = _decomposed("NFKD" if "K" in form else "NFD", text)
    ordered = list(_in_order(decomposed, lambda one: _combining(one.text)))
    return iter(ordered) if form.endswith("D") else _composed(ordered)


def _decomposed(form: Form, text: str) -> Iterator[_Placed]:
    for at, character in enumerate(text):
        for part in normalize(form, character):
            yield _Placed(part, at, at + 1)


def _run_in_order(run: re.Match[str]) -> str:
    """A run of marks after decomposing it, which gives some of them their combining class."""
    marks = (part for mark in run[0] for part in normalize("NFD", mark))
    return "".join(_in_order(marks, _combining))


def _in_order(characters: Iterable[T], combining: Callable[[T], int]) -> Iterator[T]:
    """Runs of marks sorted by their combining class; marks of one class keep their order."""
    for is_mark, run in groupby(characters, lambda one: combining(one) > 0):
        members = list(run)
        yield from sorted(members, key=combining) if is_mark else members


def _composed(characters: list[_Placed]) -> Iterator[_Placed]:
    """Each character joined with the last starter before it, where the two make one.

    A mark is blocked from its starter by a mark of the same class between them, and by another
    starter.
    """
    done: list[_Placed] = []
    starter = -1
    for one in characters:
        joined = None
        if starter >= 0 and not _blocked(done[-1], one, adjacent=starter == len(done) - 1):
            joined = _pair(done[starter].text, one.text)
        if joined is not None:
            done[starter] = _covering(joined, done[starter], one)
            continue
        if _combining(one.text) == 0:
            starter = len(done)
        done.append(one)
    return iter(done)


def _blocked(previous: _Placed, one: _Placed, *, adjacent: bool) -> bool:
    return not adjacent and _combining(previous.text) >= _combining(one.text)


def _covering(text: str, left: _Placed, right: _Placed) -> _Placed:
    return _Placed(text, min(left.start, right.start), max(left.end, right.end))


def _pair(left: str, right: str) -> str | None:
    """The one character that two make together, if they do."""
    joined = normalize("NFC", left + right)
    return joined if len(joined) == 1 else None


def _combining(character: str) -> int:
    """The combining class: 0 for starters, and for what Unicode 9.0 does not know."""
    return 0 if _young().match(character) else unicodedata.combining(character)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """A text cut at the young characters: old, young, old, young, ... old."""
    for i, part in enumerate(_young().split(text)):
        yield part, i % 2 == 1


@cache
def _long_runs() -> re.Pattern[str]:
    return re.compile(f"(?:{one_of(ranges('M'))}){{32,}}")


@cache
def _young() -> re.Pattern[str]:
    return re.compile(f"({with_property('Unassigned_9')})")
