"""Normalisers that Unicode defines: normal forms, small letters, no accents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from stemma.tokenizers.steps.alignment import Alignment, Edit
from stemma.tokenizers.steps.normalizer import ByCharacter, ByCluster, Editing
from stemma.tokenizers.unicode import case, normalization
from stemma.tokenizers.unicode.properties import with_property


class _Form(ByCluster):
    """A normal form of Unicode, named like the class."""

    def _change(self, text: str) -> str:
        return normalization.normalize(self._form, text)

    def _align(self, text: str) -> tuple[str, Alignment]:
        return normalization.align(self._form, text)

    @property
    def _form(self) -> normalization.Form:
        return type(self).__name__  # type: ignore[return-value]


@dataclass(frozen=True)
class NFC(_Form):
    """Letters and marks composed."""


@dataclass(frozen=True)
class NFD(_Form):
    """Letters and marks decomposed."""


@dataclass(frozen=True)
class NFKC(_Form):
    """Variants of a character unified, letters and marks composed."""


@dataclass(frozen=True)
class NFKD(_Form):
    """Variants of a character unified, letters and marks decomposed."""


@dataclass(frozen=True)
class Lowercase(ByCharacter):
    """Small letters."""

    def _change(self, text: str) -> str:
        return case.lower(text)

    def _align(self, text: str) -> tuple[str, Alignment]:
        return case.align(text)


@dataclass(frozen=True)
class StripAccents(ByCharacter, Editing):
    """Without combining marks; decompose (`NFD`) first."""

    def _edits(self, text: str) -> Iterator[Edit]:
        return removed(_marks(), text)


def removed(pattern: re.Pattern[str], text: str) -> Iterator[Edit]:
    """Edits that remove what a pattern finds."""
    return ((*match.span(), "") for match in pattern.finditer(text))


@cache
def _marks() -> re.Pattern[str]:
    return re.compile(with_property("Mark_9"))
