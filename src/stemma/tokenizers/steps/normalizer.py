"""What a normaliser is, and several of them in a row."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stemma.tokenizers.steps.alignment import (
    Alignment,
    Edit,
    align_edits,
    apply_edits,
    through,
    unchanged,
)
from stemma.tokenizers.unicode.graphemes import boundaries

_ASCII = re.compile(r"\A[\0-\x7f]*")
_ASCII_END = re.compile(r"[\0-\x7f]*\Z")


class Normalizer(ABC):
    """Changes a text."""

    def __call__(self, text: str) -> str:
        """The changed text."""
        return self._change(text)

    def after(self, before: str, text: str) -> str:
        """The changed text where it stands behind ``before``, at an `edge`, in a longer one."""
        return self(before + text)[len(self(before)) :] if before else self(text)

    def edge(self, left: str, right: str) -> tuple[str, str] | None:
        """What stands on both sides of a place in the changed text: as much of it as is certain.

        None if it is not certain that the two sides can be changed one by one, with no more than
        the last character of the left one before the right one (`after`).

        Args:
            left: some characters before the place; the text may begin further on.
            right: some characters behind it.
        """
        sides = self._sides(left, right)
        # What the last character becomes has to stand for all that precedes the place.
        return sides if sides is not None and sides[1] and self(left[-1]) else None

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """`edge`; what precedes the place becomes something, but it may be unknown: empty."""
        return None

    def align(self, text: str) -> tuple[str, Alignment]:
        """The changed text, and for each of its characters the characters ``start:end`` of
        ``text``.

        Starts rise and ends rise. A character that stands for none of the text has an empty span.
        """
        return self._align(text)

    def to_json(self) -> dict[str, Any]:
        """The normaliser as ``tokenizer.json`` writes it."""
        return {"type": type(self).__name__, **self._settings()}

    @abstractmethod
    def _change(self, text: str) -> str: ...

    @abstractmethod
    def _align(self, text: str) -> tuple[str, Alignment]: ...

    def _settings(self) -> dict[str, Any]:
        """What ``tokenizer.json`` writes beside the name."""
        return {}


class ByCharacter(Normalizer):
    """A normaliser that changes each character by itself."""

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """Each side by itself."""
        return self(left), self(right)


class ByCluster(Normalizer):
    """A normaliser that changes a character together with the marks behind it."""

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """Before an ASCII character, if no cluster holds it and the one before.

        Certain is what stands between ASCII characters, where no mark is.
        """
        ascii_left, ascii_right = _ASCII_END.findall(left)[0], _ASCII.findall(right)[0]
        if not ascii_right.endswith("\n"):  # to which nothing is ever joined
            ascii_right = ascii_right[:-1]
        if not left or not ascii_right or next(boundaries(left[-1] + right[0])) != 1:
            return None
        return self(ascii_left[1:].lstrip("\n")), self(ascii_right)


class Editing(Normalizer):
    """A normaliser that says what it changes and leaves the rest."""

    def _change(self, text: str) -> str:
        return apply_edits(text, self._edits(text))

    def _align(self, text: str) -> tuple[str, Alignment]:
        return align_edits(text, self._edits(text))

    @abstractmethod
    def _edits(self, text: str) -> Iterable[Edit]:
        """The changes, from left to right."""


@dataclass(frozen=True)
class Sequence(Normalizer):
    """Several normalisers, one after the other.

    Args:
        normalizers: the steps.
    """

    normalizers: tuple[Normalizer, ...]

    def __init__(self, normalizers: Iterable[Normalizer]) -> None:
        object.__setattr__(self, "normalizers", tuple(normalizers))

    def _change(self, text: str) -> str:
        for step in self.normalizers:
            text = step(text)
        return text

    def _sides(self, left: str, right: str) -> tuple[str, str] | None:
        """What all the steps leave."""
        sides: tuple[str, str] | None = left, right
        for step in self.normalizers:
            sides = step._sides(*sides) if sides else None
        return sides

    def _align(self, text: str) -> tuple[str, Alignment]:
        given, alignment = text, unchanged(0, len(text))
        for step in self.normalizers:
            if step(text) != text:
                text, changes = step.align(text)
                alignment = through(alignment, changes, len(given))
        return text, alignment

    def _settings(self) -> dict[str, Any]:
        return {"normalizers": [step.to_json() for step in self.normalizers]}
