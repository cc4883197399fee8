"""What SentencePiece does to a text before it cuts it: a character map, and its own white space.

White space is part of the tokens, written ``▁`` (U+2581), so that tokens, joined, are the text. One
more is put in front: ``world`` is then the same token at the beginning of a text as within it.

Source: Kudo and Richardson 2018, arXiv:1808.06226, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stemma.tokenizers.steps.alignment import Edit
from stemma.tokenizers.steps.charsmap import CharsMap

SPACE = "▁"
_RUN_OR_SPACE = re.compile(r"[^ ]+| ")


@dataclass(frozen=True)
class Spaces:
    """What becomes of the spaces of a text.

    Args:
        add_dummy_prefix: put one before the text (behind it if ``suffix``).
        remove_extra: drop those at both ends, and all but one of several.
        escape: write ``▁`` for a space.
        suffix: a space belongs to the word before it.
    """

    add_dummy_prefix: bool = True
    remove_extra: bool = True
    escape: bool = True
    suffix: bool = False


class SentencePieceNormalizer:
    """Rewrites a text by the longest rule that matches at each place, then its spaces.

    Args:
        charsmap: the rules; may be empty.
        spaces: what becomes of spaces.
        user_defined: tokens that are left as they are wherever they stand.

    Raises:
        TokenizerError: if ``charsmap`` is damaged.
    """

    def __init__(self, charsmap: bytes, spaces: Spaces, user_defined: Iterable[str] = ()) -> None:
        self.charsmap = CharsMap(charsmap)
        self.spaces = spaces
        self.user_defined = tuple(user_defined)
        longest_first = sorted(self.user_defined, key=len, reverse=True)
        joined = "|".join(map(re.escape, longest_first))
        self._user_defined = re.compile(joined) if joined else None

    def __call__(self, text: str) -> str:
        """The text as the model sees it."""
        return self.align(text)[0]

    def align(self, text: str) -> tuple[str, list[int]]:
        """The text as the model sees it, and where in ``text`` each of its characters begins.

        All characters that one rule writes begin where the rule matched. One entry more says where
        the last one ends.
        """
        steps = list(self._steps(text))
        skipped = self._leading_spaces(steps)
        if skipped == len(steps):
            return "", [0]
        start = steps[skipped][0]
        space = SPACE if self.spaces.escape else " "
        before = self.spaces.add_dummy_prefix and not self.spaces.suffix
        parts, places = ([space], [start]) if before else ([], [])
        after_space = self.spaces.remove_extra
        for start, end, new, unchanged in steps[skipped:]:
            kept = new.lstrip(" ") if after_space else new
            if kept:
                after_space = self.spaces.remove_extra and kept.endswith(" ")
                parts.append(kept.replace(" ", space))
                places += range(start, end) if unchanged else [start] * len(kept)
        return self._finish("".join(parts), [*places, len(text)], space)

    def user_defined_in(self, text: str) -> list[tuple[int, int]]:
        """The characters ``start:end`` of the user-defined tokens in a text, from left to right."""
        return [m.span() for m in self._user_defined.finditer(text)] if self._user_defined else []

    def _leading_spaces(self, steps: Sequence[tuple[int, int, str, bool]]) -> int:
        if not self.spaces.remove_extra:
            return 0
        return next((i for i, step in enumerate(steps) if step[2] != " "), len(steps))

    def _finish(self, text: str, places: list[int], space: str) -> tuple[str, list[int]]:
        kept = text.rstrip(space) if self.spaces.remove_extra else text
        del places[len(kept) + 1 :]
        if self.spaces.add_dummy_prefix and self.spaces.suffix:
            return kept + space, [*places, places[-1]]
        return kept, places

    def _steps(self, text: str) -> Iterator[tuple[int, int, str, bool]]:
        """``text`` cut into what rules rewrite, single spaces, and runs that stay as they are.

        Each with its start, its end, what it becomes, and whether it is unchanged.
        """
        done = 0
        for start, end, new in self._edits(text):
            yield from _unchanged(text, done, start)
            yield start, end, new, False
            done = end
        yield from _unchanged(text, done, len(text))

    def _edits(self, text: str) -> Iterator[Edit]:
        """What rules and user-defined tokens take hold of, from left to right."""
        if self._user_defined is None:
            yield from self.charsmap.edits(text)
            return
        at = 0
        while at < len(text):
            end = at + 1
            if found := self._user_defined.match(text, at):
                end = found.end()
                yield at, end, found[0]
            elif self.charsmap.data and (match := self.charsmap.longest(text, at)):
                end = match.end
                yield at, end, match.new
            at = end


def _unchanged(text: str, start: int, end: int) -> Iterator[tuple[int, int, str, bool]]:
    for found in _RUN_OR_SPACE.finditer(text, start, end):
        yield found.start(), found.end(), found[0], True
