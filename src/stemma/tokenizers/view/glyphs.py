"""Making visible what a terminal or a page would hide, join or obey."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import groupby

SPACE, NEWLINE, TAB = "·", "⏎", "→"
ELLIPSIS = "…"
_MARKS = {" ": SPACE, "\n": NEWLINE, "\t": TAB}
# What stands for our own marks where these cannot be shown.
_PLAIN_MARKS = {SPACE: "_", NEWLINE: "\\n", TAB: "\\t", ELLIPSIS: "~", "│": "|", "█": "#"}
_NAMES = {
    "\u00a0": "nbsp",
    "\u00ad": "shy",
    "\u200b": "zwsp",
    "\u200c": "zwnj",
    "\u200d": "zwj",
    "\u200e": "lrm",
    "\u200f": "rlm",
    "\u2028": "ls",
    "\u2029": "ps",
    "\u202f": "nnbsp",
    "\u2060": "wj",
    "\u3000": "wide space",
    "\ufe0e": "vs15",
    "\ufe0f": "vs16",
    "\ufeff": "bom",
}
_DOTTED_CIRCLE = "\u25cc"
_CONTROL_PICTURES = 0x2400
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})


def glyphs(data: bytes, encoding: str = "utf-8") -> str:
    """A token as one visible line: bytes that are no character as ``<e280>``.

    Args:
        data: the bytes of the token.
        encoding: what the place can show that it is meant for; what it cannot is escaped.
    """
    return encodable("".join(shown for shown, _ in signs(data)), encoding)


def signs(data: bytes) -> Iterator[tuple[str, bool]]:
    """A token piece by piece, and whether that piece is a code of ours in angle brackets."""
    first = True
    for is_lone, group in groupby(data.decode(errors="surrogateescape"), _is_lone_byte):
        if is_lone:
            yield f"<{''.join(f'{ord(c) - 0xDC00:02x}' for c in group)}>", True
        else:
            for character in group:
                shown = glyph(character, begins=first)
                yield shown, len(shown) > 1 and shown[0] == "<"
                first = False
        first = False


def _is_lone_byte(character: str) -> bool:
    return "\udc80" <= character <= "\udcff"


def visible(text: str, encoding: str = "utf-8") -> str:
    """`glyphs` of a text."""
    return glyphs(text.encode(errors="replace"), encoding)


@cache
def glyph(character: str, *, begins: bool = False) -> str:
    """What stands for a character; a mark that begins a token gets a circle to stand on."""
    if character in _MARKS:
        return _MARKS[character]
    category = unicodedata.category(character)
    if ord(character) < 0x20:
        return chr(_CONTROL_PICTURES + ord(character))
    if character == "\x7f":
        return "␡"
    if category in _HIDDEN or character in _NAMES:
        return f"<{_NAMES.get(character, f'U+{ord(character):04X}')}>"
    if begins and category[0] == "M":
        return _DOTTED_CIRCLE + character
    return character


def encodable(text: str, encoding: str) -> str:
    """``text`` with what ``encoding`` lacks as escapes; our own marks have plain forms."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for mark, plain in _PLAIN_MARKS.items():
            text = text.replace(mark, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def shortened(text: str, width: int) -> str:
    """``text`` with its middle left out if it is longer than ``width`` characters."""
    if len(text) <= width:
        return text
    head = max(width * 2 // 3 - 1, 1)
    tail = max(width - head - 1, 0)
    return f"{text[:head]}{ELLIPSIS}{text[len(text) - tail :]}"
