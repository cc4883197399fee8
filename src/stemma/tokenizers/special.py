"""Tokens that are not learned from text: special tokens, and others added to a vocabulary.

A *special* token (``<|endoftext|>``) stands for no text and is found in a text only where the
caller allows it: else whoever writes the text could end it. Another *added* token (``<think>``, a
run of spaces) stands for its text and is found wherever it occurs, before the text is cut in any
other way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from stemma.errors import TokenizerError
from stemma.tokenizers.unicode.classes import characters, contains, ranges

END_OF_TEXT = "<|endoftext|>"
"""The mark between two documents."""

AllowedSpecial = Literal["all"] | Collection[str]

Part = str | int
"""A stretch of text, or the id of an added token."""


@dataclass(frozen=True)
class AddedToken:
    """A token outside the learned vocabulary.

    Args:
        content: its text.
        id: its id.
        special: whether it stands for no text and has to be allowed.
        single_word: found only where no letter, digit or underscore touches it.
        lstrip: takes white space before it along.
        rstrip: takes white space after it along.
        normalized: sought in the normalised text rather than in the text as given.
    """

    content: str
    id: int
    special: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


Accept = Callable[[AddedToken, int, int], bool]
"""Whether a token may stand at ``start:end`` of a text."""


class AddedTokens:
    """The added tokens of one tokenizer.

    Args:
        tokens: all of them, special or not.

    Raises:
        TokenizerError: if a token has no text, or two share one text or one id.
    """

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self.tokens = tuple(tokens)
        self.by_content = {token.content: token for token in tokens}
        if "" in self.by_content:
            raise TokenizerError("a special token is spelled as the empty string")
        for what, distinct in (
            ("text", self.by_content),
            ("id", {token.id for token in tokens}),
        ):
            if len(distinct) != len(tokens):
                listing = {token.content: token.id for token in tokens}
                raise TokenizerError(f"two special tokens share one {what}: {listing}")
        self.special = {token.content: token.id for token in tokens if token.special}
        self.always = frozenset(t.content for t in tokens if not t.special)
        self._patterns: dict[tuple[frozenset[str], bool | None], re.Pattern[str] | None] = {}

    def allowed(self, allowed_special: AllowedSpecial) -> frozenset[str]:
        """The texts to look for: those of all ordinary added tokens, and the special ones allowed.

        Raises:
            TokenizerError: if ``allowed_special`` names a token that does not exist.
        """
        if not allowed_special:
            return self.always
        names = frozenset(self.special if allowed_special == "all" else allowed_special)
        if unknown := sorted(names - self.by_content.keys()):
            raise TokenizerError(
                f"no such special token: {unknown[0]!r}",
                where="allowed_special",
                cure=f"The special tokens here are: {', '.join(self.special) or '(none)'}.",
            )
        return self.always | names

    def split(
        self,
        text: str,
        names: frozenset[str],
        *,
        normalized: bool | None = False,
        accept: Accept | None = None,
    ) -> Iterator[tuple[Part, int, int]]:
        """Cut ``text`` at the tokens of ``names``: parts with their start and end, in order.

        Where one token's text begins another's, the longer one is found.

        Args:
            text: the text.
            names: see `allowed`.
            normalized: which kind of token to look for (see `AddedToken`); None: both.
            accept: asked about each token with its start and end whether it may stand there; if
                not, a shorter one is looked for, and then one that begins further on.
        """
        done = 0
        for token, *place in self._find(text, names, normalized, accept):
            start, end = _with_spaces(token, text, done, *place)
            if start > done:
                yield text[done:start], done, start
            yield token.id, start, end
            done = end
        if done < len(text):
            yield text[done:], done, len(text)

    def split_twice(self, text: str, names: frozenset[str]) -> Iterator[tuple[Part, int, int]]:
        """`split` at what is sought in a text as given, and then at what is sought afterwards."""
        for part, start, end in self.split(text, names):
            if isinstance(part, int):
                yield part, start, end
            else:
                for inner, a, b in self.split(part, names, normalized=True):
                    yield inner, start + a, start + b

    def _find(
        self, text: str, names: frozenset[str], normalized: bool | None, accept: Accept | None
    ) -> Iterator[tuple[AddedToken, int, int]]:
        pattern = self._pattern(names, normalized)
        at = 0
        while pattern and (match := pattern.search(text, at)):
            start = match.start()
            at = start + 1
            for token in self._beginning(match[0], names, normalized):
                end = start + len(token.content)
                touched = _is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])
                alone = not (token.single_word and touched)
                if alone and accept is not None and not accept(token, start, end):
                    continue
                if alone:
                    yield token, start, end
                at = end
                break

    def _beginning(
        self, name: str, names: frozenset[str], normalized: bool | None
    ) -> Iterator[AddedToken]:
        """The tokens whose text ``name`` begins with, the longest first."""
        for size in range(len(name), 0, -1):
            token = self.by_content.get(name[:size])
            if token and name[:size] in names and normalized in (None, token.normalized):
                yield token

    def occur_in(self, text: str, names: frozenset[str]) -> bool:
        """Whether one of ``names`` stands in a text that is not normalised yet."""
        pattern = self._pattern(names, False)
        return pattern is not None and pattern.search(text) is not None

    def in_normalized(self, names: frozenset[str]) -> bool:
        """Whether one of ``names`` is sought in the normalised text."""
        return self._pattern(names, True) is not None

    def _pattern(self, names: frozenset[str], normalized: bool | None) -> re.Pattern[str] | None:
        key = (names, normalized)
        if key not in self._patterns:
            chosen = [
                name for name in names if normalized in (None, self.by_content[name].normalized)
            ]
            longest_first = sorted(chosen, key=lambda name: (-len(name), name))
            joined = "|".join(map(re.escape, longest_first))
            self._patterns[key] = re.compile(joined) if joined else None
        return self._patterns[key]


def _with_spaces(token: AddedToken, text: str, done: int, start: int, end: int) -> tuple[int, int]:
    """A token's place with the white space that it takes along; what is before ``done`` is not."""
    while token.lstrip and start > done and text[start - 1] in _spaces():
        start -= 1
    while token.rstrip and end < len(text) and text[end] in _spaces():
        end += 1
    return start, end


@cache
def _spaces() -> frozenset[str]:
    return characters(ranges("White_Space"))


def _is_word(character: str) -> bool:
    return bool(character) and contains(ranges("Word"), ord(character))


def special_tokens(ids: Mapping[str, int]) -> list[AddedToken]:
    """Plain special tokens: name -> id as `AddedToken`."""
    return [AddedToken(name, id_) for name, id_ in ids.items()]
