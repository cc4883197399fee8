"""Cutting text into words before BPE, so that no token reaches over the edge of one.

GPT-2's rule (Radford et al. 2019, section 2.2): contractions; letters, digits or other characters,
each with one space before them; spaces that are left over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|[\s]+(?![^\s])|[\s]+"
"""The words it finds, joined, are the text again; ``\\p{L}`` are letters, ``\\p{N}`` numbers."""

SEGMENT_CHARACTERS = 1 << 20


def split_words(text: str) -> Iterator[list[str]]:
    """The words of ``text``, a segment of about a million characters at a time.

    ``"Don't   stop"`` gives ``["Don", "'t", "  ", " stop"]``. Text is cut into segments between a
    visible character and white space, where a word ends in any case.
    """
    words, word_end = compile_pattern(GPT2_PATTERN), compile_pattern(r"[^\s](?=[\s])")
    start = 0
    while len(text) - start > SEGMENT_CHARACTERS:
        found = word_end.search(text, start + SEGMENT_CHARACTERS)
        if found is None:
            break
        yield words.findall(text, start, found.end())
        start = found.end()
    yield words.findall(text, start)


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""Compile a pattern whose ``\p{L}``, ``\p{N}`` and ``\s``, in brackets, are Unicode 16.0's.

    Which characters are letters changes with every version of Unicode, and with it the ids. Hence
    a table of our own, of the version that tiktoken has, and not the tables of whatever Python or
    library is installed.
    """
    for name, members in unicode_classes().items():
        pattern = pattern.replace(name, members)
    return re.compile(pattern)


@cache
def unicode_classes() -> dict[str, str]:
    r"""``\p{L}``, ``\p{N}`` and ``\s`` -> the ranges of their characters, to stand in brackets."""
    table = files("stemma.tokenizers").joinpath("unicode16.txt").read_text("ascii")
    rows = [line.split(" ") for line in table.splitlines() if not line.startswith("#")]
    ranges = {name: [part.split("-") for part in parts] for name, *parts in rows}
    names = {r"\p{L}": "letters", r"\p{N}": "numbers", r"\s": "spaces"}
    return {
        name: "".join("-".join(f"\\U{int(end, 16):08x}" for end in ends) for ends in ranges[row])
        for name, row in names.items()
    }
