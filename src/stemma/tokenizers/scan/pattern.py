r"""Reading the regular expressions by which models cut text into words.

They need only a part of what a regular expression can be: classes of characters, alternatives,
repetition, and a look at the one character that follows. `parse` makes a tree of that part and
refuses the rest (`Unsupported`), which the ``regex`` package can still do, slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

from stemma.tokenizers.unicode import classes
from stemma.tokenizers.unicode.classes import Range

Characters = tuple[Range, ...]


class Unsupported(Exception):  # noqa: N818 - not an error for the user: there is another way
    """The pattern needs more than one pass over the text with one character of foresight."""


@dataclass(frozen=True)
class One:
    """One character of a set."""

    characters: Characters


@dataclass(frozen=True)
class Ahead:
    """Nothing, where a character of the set follows; ``or_end``: or where the text ends."""

    characters: Characters
    or_end: bool


@dataclass(frozen=True)
class Several:
    """One after another."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """The first of these that leads to a match."""

    options: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """``least`` to ``most`` times (None: any number), as often as possible unless ``lazy``.

    ``possessive``: what was taken is not given back, even where a match needs it.
    """

    part: Node
    least: int
    most: int | None
    lazy: bool = False
    possessive: bool = False


Node = One | Ahead | Several | Either | Repeat

_ESCAPES = {
    "r": "\r",
    "n": "\n",
    "t": "\t",
    "f": "\f",
    "v": "\v",
    "0": "\0",
    "a": "\a",
    "e": "\x1b",
}
_SHORTHANDS = {"s": "White_Space", "d": "Nd", "w": "Word"}
_CASE_PARTNERS = {"s": "\u017f", "k": "\u212a"}
"""Beyond ASCII there are two characters that equal an ASCII letter when case is ignored."""


def parse(pattern: str) -> Node:
    """The tree of a pattern.

    Raises:
        Unsupported: if it needs what the tree cannot say, or is malformed.
    """
    reader = _Reader(pattern)
    node = reader.either()
    if not reader.at_end:
        raise Unsupported(f"{reader.rest!r} is left over")
    return node


class _Reader:
    """A pattern and a place in it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._ignore_case = False

    @property
    def at_end(self) -> bool:
        return self._at == len(self._pattern)

    @property
    def rest(self) -> str:
        return self._pattern[self._at :]

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _next(self) -> str:
        if self.at_end:
            raise Unsupported("the pattern ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise Unsupported(f"{text!r} is missing before {self.rest!r}")

    def either(self) -> Node:
        options = [self._several()]
        while self._take("|"):
            options.append(self._several())
        return options[0] if len(options) == 1 else Either(tuple(options))

    def _several(self) -> Node:
        parts: list[Node] = []
        while not self.at_end and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Several(tuple(parts))

    def _atom(self) -> Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return One(self._brackets())
        if character == "\\":
            return self._escaped()
        if character == "$":
            return Ahead((), or_end=True)
        if character == ".":
            return One(classes.complement([(10, 10)]))
        if character in "^*+?{":
            raise Unsupported(f"{character!r} here")
        return One(self._cased(ord(character)))

    def _group(self) -> Node:
        if self._take("?!"):
            return self._ahead(negative=True)
        if self._take("?="):
            return self._ahead(negative=False)
        before = self._ignore_case
        if self._take("?i:"):
            self._ignore_case = True
        elif not self._take("?:") and self.rest.startswith("?"):
            raise Unsupported(f"a group that begins with {self.rest[:3]!r}")
        node = self.either()
        self._expect(")")
        self._ignore_case = before
        return node

    def _ahead(self, *, negative: bool) -> Node:
        node = self.either()
        self._expect(")")
        if not isinstance(node, One):
            raise Unsupported("a look ahead at more than one character")
        characters = classes.complement(node.characters) if negative else node.characters
        return Ahead(characters, or_end=negative)

    def _escaped(self) -> Node:
        if self._take("z") or self._take("Z"):
            return Ahead((), or_end=True)
        return One(self._escaped_set())

    def _escaped_set(self) -> Characters:
        character = self._next()
        if character in "pP":
            return self._property(negative=character == "P")
        if character.lower() in _SHORTHANDS:
            members = classes.ranges(_SHORTHANDS[character.lower()])
            return classes.complement(members) if character.isupper() else members
        if character in "xu":
            code = self._code(2 if character == "x" else 4)
        elif character in _ESCAPES:
            code = ord(_ESCAPES[character])
        elif character.isalnum():
            raise Unsupported(f"\\{character}")
        else:
            code = ord(character)
        return self._cased(code)

    def _code(self, digits: int) -> int:
        if self._take("{"):
            end = self._pattern.find("}", self._at)
            text = self._pattern[self._at : end] if end >= 0 else ""
            self._at = end + 1
        else:
            text = self._pattern[self._at : self._at + digits]
            self._at += digits
        try:
            return int(text, 16)
        except ValueError:
            raise Unsupported(f"the code {text!r}") from None

    def _property(self, *, negative: bool) -> Characters:
        if self._take("{"):
            end = self._pattern.find("}", self._at)
            name = self._pattern[self._at : max(end, self._at)]
            self._at = end + 1
        else:
            name = self._next()
        if name.startswith("^"):
            name, negative = name[1:], not negative
        for prefix in ("Script=", "sc=", "General_Category=", "gc=", "Is"):
            name = name.removeprefix(prefix)
        try:
            members = classes.ranges(name)
        except KeyError:
            raise Unsupported(f"\\p{{{name}}}") from None
        return classes.complement(members) if negative else members

    def _brackets(self) -> Characters:
        negative = self._take("^")
        members: Characters = ()
        first = True
        while first or not self._take("]"):
            if self._take("&&"):
                self._expect("[")
                members = classes.intersection(members, self._brackets())
                self._expect("]")
                break
            members = classes.union(members, self._bracket_item())
            first = False
        return classes.complement(members) if negative else members

    def _bracket_item(self) -> Characters:
        character = self._next()
        if character == "[":
            if self.rest.startswith(":"):
                raise Unsupported("a class as POSIX writes it")
            return self._brackets()
        low = self._escaped_set() if character == "\\" else self._cased(ord(character))
        if not self.rest.startswith("-") or self.rest.startswith(("-]", "-[")):
            return low
        self._expect("-")
        character = self._next()
        high = self._escaped_set() if character == "\\" else self._cased(ord(character))
        if self._ignore_case or len(low) != 1 or len(high) != 1 or low[0][0] > high[0][1]:
            raise Unsupported("this range of characters")
        return ((low[0][0], high[0][1]),)

    def _cased(self, code: int) -> Characters:
        if not self._ignore_case:
            return ((code, code),)
        character = chr(code)
        if not character.isascii():
            raise Unsupported("ignoring the case of letters beyond ASCII")
        partners = {character.lower(), character.upper()}
        partners |= {_CASE_PARTNERS.get(character.lower(), character)}
        return classes.union([(ord(c), ord(c)) for c in partners])

    def _repeated(self, node: Node) -> Node:
        least, most = self._quantifier()
        if (least, most) == (1, 1):
            return node
        if isinstance(node, Ahead):
            raise Unsupported("a repeated look ahead")
        lazy = self._take("?")
        possessive = not lazy and self._take("+")
        return self._repeated(Repeat(node, least, most, lazy, possessive))

    def _quantifier(self) -> tuple[int, int | None]:
        for sign, bounds in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self._take(sign):
                return bounds
        if not self._take("{"):
            return 1, 1
        end = self._pattern.find("}", self._at)
        low, comma, high = self._pattern[self._at : max(end, self._at)].partition(",")
        self._at = end + 1
        try:
            least = int(low or 0)
            return least, (int(high) if high else None) if comma else least
        except ValueError:
            raise Unsupported("this number of repetitions") from None
