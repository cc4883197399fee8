"""Rows of ids and of spans."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError

Spans = NDArray[np.int64]
"""Where each token stands in the UTF-8 bytes of a text: start and end, of shape (n, 2)."""


def as_row(ids: Iterable[int]) -> NDArray[Any]:
    """What is given as ids, as an array of whatever type numpy finds fit.

    Raises:
        TokenizerError: if it is not even a row.
    """
    if isinstance(ids, np.ndarray):
        return ids
    if isinstance(ids, list):
        try:
            return np.frombuffer(array("q", ids), np.int64)  # in half of numpy's time
        except (TypeError, OverflowError):
            pass
    if not isinstance(ids, Iterable):
        raise TokenizerError(f"ids must be one row of integers, got {type(ids).__name__}")
    return np.asarray(ids if isinstance(ids, Sequence) else list(ids))


def concatenate(parts: Iterable[Sequence[int] | NDArray[np.int32]]) -> NDArray[np.int32]:
    """Rows of ids, one after another."""
    rows = [np.asarray(part, np.int32) for part in parts]
    if len(rows) == 1:
        return rows[0]
    return np.concatenate(rows) if rows else np.empty(0, np.int32)


def with_spans(
    text: str,
    parts: Iterable[tuple[str | int, int, int]],
    encode: Callable[[str, int], tuple[NDArray[np.int32], Spans]],
) -> tuple[NDArray[np.int32], Spans]:
    """Ids of the parts of a text, and their spans in it.

    Args:
        text: the text.
        parts: its stretches and the ids of added tokens, each with its characters ``start:end``.
        encode: the ids and spans of a stretch, given with its start.
    """
    ids: list[NDArray[np.int32]] = []
    spans: list[Spans] = []
    offset = 0
    for part, start, end in parts:
        n_bytes = len(text[start:end].encode())
        if isinstance(part, str):
            found, where = encode(part, start)
        else:
            found, where = np.array([part], np.int32), np.array([[0, n_bytes]])
        ids.append(found)
        spans.append(where + offset)
        offset += n_bytes
    return concatenate(ids), np.concatenate([np.empty((0, 2), np.int64), *spans])


def original_spans(
    spans: Spans, text: str, original: str, alignment: Sequence[tuple[int, int]]
) -> Spans:
    """Spans in the bytes of a normalised text -> spans in the bytes of the original.

    Args:
        spans: of shape (n, 2), in bytes of ``text``.
        text: the normalised text.
        original: the text as it was given.
        alignment: for each character of ``text`` the characters ``start:end`` of ``original``.
    """
    character_of = np.repeat(np.arange(len(text)), [len(c.encode()) for c in text])
    byte_of = np.cumsum([0, *(len(c.encode()) for c in original)])
    ends = np.asarray([*alignment, (len(original), len(original))], np.int64).reshape(-1, 2)
    character_of = np.append(character_of, len(text))
    first, last = character_of[spans[:, 0]], character_of[np.maximum(spans[:, 1] - 1, 0)]
    starts = byte_of[ends[first, 0]]
    stops = np.where(spans[:, 1] > spans[:, 0], byte_of[ends[last, 1]], starts)
    return np.stack([starts, np.maximum(starts, stops)], axis=1)
