"""SentencePiece's BPE: characters are joined, the pair that makes the best piece first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.pieces import FOUND_IN_TEXT, Kind, Piece, SentencePieceSettings

if TYPE_CHECKING:
    from stemma.tokenizers.sentencepiece.compiled import TextEncoder

_KEPT = (Kind.NORMAL, Kind.USER_DEFINED)

__all__ = ["Kind", "Piece", "SentencePieceBPE", "SentencePieceSettings", "merge"]


class SentencePieceBPE(SentencePieceTokenizer):
    """BPE over the whole text, as ``sentencepiece`` and llama.cpp do it.

    There is no list of merges: two neighbours are joined if what they spell is a piece, that of the
    highest score first, the leftmost of several. Unused pieces take part and are taken apart again.

    Args:
        pieces: the vocabulary in the order of its ids; the score of a piece is its rank.
        settings: see there.
        added: see `SentencePieceTokenizer`.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if the pieces contradict each other or the settings.
    """

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """Piece -> a number that is the higher, the sooner it is made."""
        found = [piece for piece in self.pieces if piece.kind in FOUND_IN_TEXT]
        ranks = sortable(np.array([piece.score for piece in found], np.float32)).tolist()
        return dict(zip((piece.text for piece in found), ranks, strict=True))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece.text: i for i, piece in enumerate(self.pieces) if piece.kind in _KEPT}

    @cached_property
    def _taken_apart(self) -> set[str]:
        return {piece.text for piece in self.pieces if piece.kind == Kind.UNUSED}

    def _text_encoder(self) -> TextEncoder:
        from stemma.tokenizers.sentencepiece.compiled import bpe_encoder

        return bpe_encoder(self, self._ranks)

    def to_json(self) -> dict[str, Any]:
        """A BPE on characters, as Llama's ``tokenizer.json`` has it.

        Raises:
            TokenizerError: if the format has no way to say what the settings or pieces ask for.
        """
        from stemma.tokenizers.formats.sentencepiece_json import bpe_json

        return bpe_json(self)

    def _segment(self, text: str) -> list[tuple[int, int]]:
        parts, halves = merge(text, self.rewrite.user_defined_in(text), self._ranks)
        if self._taken_apart:
            parts = take_apart(parts, halves, self._taken_apart)
        return [(self._ids.get(part, self.unknown_id), len(part)) for part in parts]


def merge(
    text: str, whole: Iterable[tuple[int, int]], ranks: Mapping[str, int]
) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Join the characters of ``text`` to pieces, in time n log n.

    A linked list of parts, and a heap of the neighbours that make a piece. A pair in the heap may
    have been changed by a merge beside it; it is recognised by its length when it comes up.

    Args:
        text: the text.
        whole: the characters ``start:end`` of tokens that are parts of their own.
        ranks: piece -> a number that is the higher, the sooner it is made.

    Returns:
        The parts; and for every piece that came up, which two parts would have made it last.
    """
    parts, fixed = _characters(text, whole)
    n = len(parts)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    halves: dict[str, tuple[str, str]] = {}
    heap: list[tuple[int, int, int, int]] = []

    def consider(left: int, right: int) -> None:
        if left < 0 or right == n or left in fixed or right in fixed:
            return
        joined = parts[left] + parts[right]
        if joined in ranks:
            heapq.heappush(heap, (-ranks[joined], left, right, len(joined)))
            halves[joined] = parts[left], parts[right]

    for right in range(1, n):
        consider(right - 1, right)
    while heap:
        _, left, right, size = heapq.heappop(heap)
        if not parts[left] or not parts[right] or len(parts[left]) + len(parts[right]) != size:
            continue
        parts[left], parts[right] = parts[left] + parts[right], ""
        after[left] = after[right]
        if after[left] < n:
            before[after[left]] = left
        consider(before[left], left)
        consider(left, after[left])
    return [part for part in parts if part], halves


def sortable(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Integers in the order of the scores; 0.0 comes after -0.0, as in ``sentencepiece``."""
    bits = scores.view(np.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _characters(text: str, whole: Iterable[tuple[int, int]]) -> tuple[list[str], set[int]]:
    """The parts to begin with, and which of them are never joined to others."""
    parts: list[str] = []
    fixed = set()
    done = 0
    for start, end in whole:
        parts += text[done:start]
        fixed.add(len(parts))
        parts.append(text[start:end])
        done = end
    return parts + list(text[done:]), fixed


def take_apart(
    parts: Iterable[str], halves: Mapping[str, tuple[str, str]], unused: Collection[str]
) -> list[str]:
    """Replace unused pieces by the two they were made of, and so on."""
    result = []
    waiting = list(parts)[::-1]
    while waiting:
        part = waiting.pop()
        if part in unused and part in halves:
            waiting += reversed(halves[part])
        else:
            result.append(part)
    return result
