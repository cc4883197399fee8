"""Which script a text is written in."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.unicode.classes import ranges, scripts

NO_SCRIPT = frozenset({"Common", "Inherited", "Unknown"})
_KANA = ("Hiragana", "Katakana")


def script_counts(text: str) -> Counter[str]:
    """How many characters of a text each script has; ``Common`` are digits, marks and spaces."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    starts, ends, numbers = _table()
    at = np.searchsorted(starts, codes, side="right") - 1
    found = np.where(codes <= ends[at], numbers[at], len(scripts()))
    counts = np.bincount(found, minlength=len(scripts()) + 1)
    names = (*scripts(), "Unknown")
    total: Counter[str] = Counter()
    for i in np.flatnonzero(counts).tolist():
        total[names[i]] += int(counts[i])
    return total


def main_script(text: str) -> str:
    """The script of most letters; with kana among them ``Japanese``; ``Common`` without letters."""
    counts = script_counts(text)
    for name in NO_SCRIPT:
        del counts[name]
    if not counts:
        return "Common"
    if sum(counts[name] for name in _KANA) * 10 > counts.total():
        return "Japanese"
    return counts.most_common(1)[0][0].replace("_", " ")


@cache
def _table() -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int64]]:
    """First and last code points of all ranges, and the number of the script of each."""
    rows = sorted((a, b, i) for i, name in enumerate(scripts()) for a, b in ranges(name))
    starts, ends, numbers = zip(*rows, strict=True)
    return np.array(starts, np.uint32), np.array(ends, np.uint32), np.array(numbers, np.int64)
