"""What a normaliser is, and several of them in a row."""

from __future__ import annotations

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


class Normalizer(ABC):
    """Changes a text."""

    def __call__(self, text: str) -> str:
        """The changed text."""
        return self._change(text)

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

    def _align(self, text: str) -> tuple[str, Alignment]:
        given, alignment = text, unchanged(0, len(text))
        for step in self.normalizers:
            if step(text) != text:
                text, changes = step.align(text)
                alignment = through(alignment, changes, len(given))
        return text, alignment

    def _settings(self) -> dict[str, Any]:
        return {"normalizers": [step.to_json() for step in self.normalizers]}
