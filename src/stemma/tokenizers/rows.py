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


def known_row(
    ids: Iterable[int], vocab_size: int, unused: NDArray[np.int64]
) -> NDArray[np.integer[Any]]:
    """Ids as one row, all of them of a vocabulary.

    Args:
        ids: what is given as ids.
        vocab_size: ids are below.
        unused: ids below that stand for nothing.

    Raises:
        TokenizerError: naming the first that is none, and its place.
    """
    row = as_row(ids)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise TokenizerError(f"ids must be one row of integers, got {row.dtype} {row.shape}")
    if not row.size:
        return row.astype(np.int32)
    if row.min() < 0 or row.max() >= vocab_size:
        at = np.flatnonzero((row < 0) | (row >= vocab_size))[0]
        raise TokenizerError(
            f"id {row[at]} at position {at} is outside the vocabulary, 0 to {vocab_size - 1}",
            cure="Decode with the tokenizer that made the ids.",
        )
    if unused.size and np.isin(row, unused).any():
        at = np.flatnonzero(np.isin(row, unused))[0]
        raise TokenizerError(
            f"id {row[at]} at position {at} stands for nothing: the vocabulary leaves it out",
            cure="Decode with the tokenizer that made the ids.",
        )
    return row


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
