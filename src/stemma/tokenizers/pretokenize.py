"""Cutting text into words before BPE, so that no token reaches over the edge of one.

GPT-2's rule (Radford et al. 2019, section 2.2): contractions; letters, digits or other characters,
each with one space before them; spaces that are left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""``regex`` syntax; the words it finds, joined, are the text again."""

SEGMENT_CHARACTERS = 1 << 20


def split_words(text: str) -> Iterator[list[str]]:
    """The words of ``text``, a segment of about a million characters at a time.

    ``"Don't   stop"`` gives ``["Don", "'t", "  ", " stop"]``. Text is cut into segments between a
    visible character and white space, where a word ends in any case.
    """
    words, word_end = _patterns()
    start = 0
    while len(text) - start > SEGMENT_CHARACTERS:
        found = word_end.search(text, start + SEGMENT_CHARACTERS)
        if found is None:
            break
        yield words.findall(text, start, found.end())
        start = found.end()
    yield words.findall(text, start)


@cache
def _patterns() -> tuple[Any, Any]:
    # `regex` knows Unicode's classes, the standard library's `re` does not; it takes 15 ms to load.
    import regex

    return regex.compile(GPT2_PATTERN), regex.compile(r"\S(?=\s)")
