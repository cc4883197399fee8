r"""Cutting text into words: readably, with Python's ``re``, and fast, with a state machine.

Both give the same words. `WordSplitter.split` is the readable form; `WordSplitter.ends` works on
bytes and gives the ends of the words, which is all that the kernels behind it need.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.scan.pattern import (
    Ahead,
    Either,
    Node,
    One,
    Repeat,
    Several,
    Unsupported,
    parse,
)
from stemma.tokenizers.scan.patterns import Rule, name_of, rule
from stemma.tokenizers.scan.tables import edges_of, tables_of
from stemma.tokenizers.unicode.classes import in_brackets

SEGMENT_BYTES = 1 << 17
"""About as many bytes are cut and encoded at once: what they need stays in the processor's cache.
"""


class WordSplitter:
    """Cuts text by a rule: the words that its patterns find, and what lies between them.

    Args:
        patterns: the name of a rule of `scan.patterns`, or its patterns, applied one within
            another.

    Raises:
        TokenizerError: if a pattern is no regular expression.
    """

    def __init__(self, patterns: str | Rule) -> None:
        self.patterns = rule(patterns) if isinstance(patterns, str) else tuple(patterns)
        for pattern in self.patterns:
            _check_pattern(pattern)

    @property
    def name(self) -> str | None:
        """The rule's name, if it has one."""
        return name_of(self.patterns)

    def split(self, text: str) -> list[str]:
        """The words of ``text``; joined, they are the text.

        ``"Don't   stop"`` gives ``["Don", "'t", "  ", " stop"]`` by GPT-2's rule.
        """
        words = [text] if text else []
        for pattern in self.patterns:
            find = _finder(pattern)
            words = [word for stretch in words for word in find(stretch)]
        return words

    def ends(
        self, data: NDArray[np.uint8], limits: NDArray[np.int32], room: Room | None = None
    ) -> NDArray[np.int32]:
        """Where each word ends, in bytes.

        Args:
            data: UTF-8 bytes.
            limits: where each of several texts in ``data`` ends, one after another.
            room: memory to write to; the result is a view of it, until it is used again.
        """
        from stemma.tokenizers.kernels.scan import word_ends

        room = Room() if room is None else room
        for pattern in self.patterns:
            tables = tables_of(pattern)
            if tables is None:
                limits = _ends_by_search(data, limits, pattern)
                continue
            ends = room.take(int(limits[-1]) + 1 if limits.size else 1)
            own = (tables.kinds, tables.machine, tables.fast, tables.double)
            n = word_ends(data, limits, *own, ends)
            limits = ends[:n]
        return limits

    def segments(self, data: NDArray[np.uint8], n_bytes: int) -> Iterator[tuple[int, int]]:
        """Cut a long text where a word ends in any case, into segments of about a size.

        Args:
            data: UTF-8 bytes.
            n_bytes: how many of them are text.
        """
        start = 0
        while n_bytes - start > SEGMENT_BYTES:
            end = self.edge(data, start + SEGMENT_BYTES, n_bytes)
            yield start, end
            start = end
        if start < n_bytes:
            yield start, n_bytes

    def edge(self, data: NDArray[np.uint8], start: int, end: int) -> int:
        """The first place after ``start`` where a word ends in any case; ``end`` if there is none.

        The words of the text before that place and of the text behind it are those of the whole.
        """
        from stemma.tokenizers.kernels.scan import sure_edge

        edges = edges_of(self.patterns)
        if edges is None:
            return end
        while start < end and data[start] & 0xC0 == 0x80:
            start += 1
        return int(sure_edge(data, start, end, edges.kinds, edges.pairs))

    def last_edge(self, text: str, before: int, *, ascii_only: bool = False) -> int:
        """The last place up to ``before`` where a word ends in any case; 0 if there is none.

        Args:
            text: the text.
            before: where to begin to look, towards the start.
            ascii_only: look only where the character before and the two behind are ASCII.
        """
        edges = edges_of(self.patterns)
        if edges is None:
            return 0
        for i in range(min(before, len(text) - 1), 0, -1):
            left, right = ord(text[i - 1]), ord(text[i])
            if edges.pairs[edges.kinds[left], edges.kinds[right]] and (
                not ascii_only or text[i - 1 : i + 2].isascii()
            ):
                return i
        return 0


class Room:
    """Memory for the ends of words that is used again and again: new memory has to be cleared."""

    def __init__(self) -> None:
        self._rows = [np.empty(0, np.int32), np.empty(0, np.int32)]

    def take(self, n: int) -> NDArray[np.int32]:
        """A row of at least ``n`` numbers, another one than at the last call."""
        self._rows.reverse()
        if self._rows[0].size < n:
            self._rows[0] = np.empty(2 * n, np.int32)
        return self._rows[0]


def split_words(text: str, patterns: str | Rule = "gpt2") -> list[str]:
    """The words of ``text`` by a rule; see `WordSplitter.split`."""
    return splitter(patterns).split(text)


@cache
def splitter(patterns: str | Rule) -> WordSplitter:
    """The splitter of a rule, made once."""
    return WordSplitter(patterns)


@cache
def _finder(pattern: str) -> Callable[[str], list[str]]:
    """A function that cuts a text by one pattern, readably."""
    try:
        compiled: Any = re.compile(python_pattern(parse(pattern)))
    except Unsupported:
        slow = _slow_pattern(pattern)
        return lambda text: _with_gaps(slow, text)

    def find(text: str) -> list[str]:
        words = compiled.findall(text)
        if sum(map(len, words)) == len(text):
            return words  # type: ignore[no-any-return]
        return _with_gaps(compiled, text)

    return find


def _with_gaps(compiled: Any, text: str) -> list[str]:
    words, done = [], 0
    for match in compiled.finditer(text):
        words += [text[done : match.start()], match[0]]
        done = match.end()
    return [word for word in (*words, text[done:]) if word]


@cache
def _slow_pattern(pattern: str) -> Any:
    import regex

    warnings.warn(
        f"the pattern {pattern!r} is beyond the scanner: the regex package cuts by it, slowly",
        stacklevel=2,
    )
    return regex.compile(pattern)


def _ends_by_search(
    data: NDArray[np.uint8], limits: NDArray[np.int32], pattern: str
) -> NDArray[np.int32]:
    lengths: list[int] = []
    start = 0
    find = _finder(pattern)
    for limit in limits.tolist():
        text = data[start:limit].tobytes().decode()
        lengths += [len(word.encode()) for word in find(text)] if text else []
        start = limit
    return np.cumsum(lengths, dtype=np.int32)


def _check_pattern(pattern: str) -> None:
    try:
        parse(pattern)
    except Unsupported:
        import regex

        try:
            regex.compile(pattern)
        except regex.error as error:
            raise TokenizerError(
                f"the pattern {pattern!r} is not a regular expression: {error}"
            ) from None


def python_pattern(node: Node) -> str:
    """The tree as a pattern of Python's ``re``, with Unicode 16.0's classes written out."""
    match node:
        case One(characters):
            return f"[{in_brackets(characters)}]"
        case Ahead(characters, or_end):
            options = [f"[{in_brackets(characters)}]"] if characters else []
            return f"(?={'|'.join([*options, *([chr(92) + 'Z'] if or_end else [])])})"
        case Several(parts):
            return "".join(map(python_pattern, parts))
        case Either(options):
            return f"(?:{'|'.join(map(python_pattern, options))})"
        case Repeat(part, least, most, lazy, possessive):
            inner = python_pattern(part)
            count = f"{{{least},{'' if most is None else most}}}"
            return f"(?:{inner}){count}{'?' if lazy else '+' if possessive else ''}"
