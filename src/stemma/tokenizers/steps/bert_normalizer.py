"""What BERT does to a text before it cuts it into words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any

from stemma.tokenizers.steps.alignment import Alignment, Edit
from stemma.tokenizers.steps.normalizer import ByCharacter, Editing, Normalizer, Sequence
from stemma.tokenizers.steps.unicode_normalizers import NFD, Lowercase, removed
from stemma.tokenizers.unicode import classes
from stemma.tokenizers.unicode.properties import one_of, ranges, with_property

_CHINESE = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b81f"
    "\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


@dataclass(frozen=True)
class BertNormalizer(Normalizer):
    """What BERT does to a text (Devlin et al. 2018): up to four steps, in this order.

    Args:
        clean_text: control characters are removed; a space stands for each kind of white space.
        handle_chinese_chars: a space before and after each Chinese character.
        strip_accents: letters are decomposed and marks removed; ``None``: if ``lowercase``.
        lowercase: small letters.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def _change(self, text: str) -> str:
        return self._steps(text)

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """See there."""
        return self._steps._sides(left, right)

    def _align(self, text: str) -> tuple[str, Alignment]:
        return self._steps.align(text)

    @cached_property
    def _steps(self) -> Sequence:
        accents = self.lowercase if self.strip_accents is None else self.strip_accents
        steps: list[Normalizer] = [_CleanText()] if self.clean_text else []
        steps += [_SpaceOutChinese()] if self.handle_chinese_chars else []
        steps += [NFD(), _StripNonspacing()] if accents else []
        steps += [Lowercase()] if self.lowercase else []
        return Sequence(steps)

    def _settings(self) -> dict[str, Any]:
        return asdict(self)


class _CleanText(ByCharacter, Editing):
    """Without control characters and U+FFFD; one space for each white space."""

    def _edits(self, text: str) -> Iterator[Edit]:
        for match in _unclean().finditer(text):
            yield *match.span(), " " if match.lastgroup else ""


class _SpaceOutChinese(ByCharacter, Editing):
    """A space before and after each Chinese character."""

    def _edits(self, text: str) -> Iterator[Edit]:
        for match in _CHINESE.finditer(text):
            yield match.start(), match.start(), " "
            yield match.end(), match.end(), " "


class _StripNonspacing(ByCharacter, Editing):
    """Without the marks that take no space of their own."""

    def _edits(self, text: str) -> Iterator[Edit]:
        return removed(_marks(), text)


@cache
def _unclean() -> re.Pattern[str]:
    kept = [(9, 10), (13, 13)]
    controls = classes.intersection(ranges("Control_8"), classes.complement(kept))
    removed = classes.union(controls, [(0xFFFD, 0xFFFD)])
    # A plain space is white space too, but becomes what it is.
    spaces = classes.intersection(classes.ranges("White_Space"), classes.complement([(32, 32)]))
    return re.compile(f"{one_of(removed)}|(?P<space>{one_of(spaces)})")


@cache
def _marks() -> re.Pattern[str]:
    return re.compile(with_property("Nonspacing_Mark_8"))
