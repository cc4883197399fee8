"""Properties of characters that only normalisation, case and grapheme clusters ask for.

The table ``properties.txt`` is built by ``scripts/build_unicode.py``. It holds several versions of
Unicode, because Hugging Face's ``tokenizers`` does, and a model's ids depend on them:

- grapheme clusters and lower case: 17.0;
- NFC, NFD, NFKC, NFKD and the marks that ``StripAccents`` removes: 9.0;
- the marks and control characters that ``BertNormalizer`` removes: 8.0.

``Unassigned_14`` is what the oldest Python that we run on may not know: what other characters do
was the same in all versions since.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from stemma.tokenizers.unicode.classes import (
    Range,
    complement,
    in_brackets,
    intersection,
    union,
)

NEVER = "(?!)"
"""A pattern that is found nowhere."""

_FIRST_PLANE = ((0, 0xFFFF),)


@cache
def ranges(name: str) -> tuple[Range, ...]:
    """The characters with a property, as ranges that rise and do not touch.

    Raises:
        KeyError: if the table has no such property.
    """
    return tuple(_pairs(name))


def one_of(members: Iterable[Range]) -> str:
    """A pattern of ``re`` for one character of a set, quick to say no.

    ``re`` looks up characters of the first plane in a table, but the others in a list of ranges,
    from one end to the other, even where the character is ``a``. So that list is read only where a
    character beyond the first plane has been seen.
    """
    members = union(members)
    near = intersection(members, _FIRST_PLANE)
    if near == members:
        return f"[{in_brackets(members)}]" if members else NEVER
    beyond = complement(_FIRST_PLANE)
    strangers = intersection(beyond, complement(members))
    unless = f"(?<![{in_brackets(strangers)}])" if strangers else ""
    return f"(?:[{in_brackets(union(near, beyond))}]{unless})"


def with_property(*names: str) -> str:
    """A pattern of ``re`` for one character with any of these properties."""
    return one_of(union(*map(ranges, names)))


@cache
def young_lowercase() -> dict[int, str]:
    """Capital -> small letter, for the capitals that are younger than Unicode 14.0."""
    return {capital: chr(small) for capital, small in _pairs("Lowercase")}


def _pairs(name: str) -> list[Range]:
    pairs = []
    for part in _rows()[name].split(" "):
        first, _, last = part.partition("-")
        pairs.append((int(first, 16), int(last or first, 16)))
    return pairs


@cache
def _rows() -> dict[str, str]:
    table = Path(__file__).with_name("properties.txt").read_text("ascii")
    lines = [line.partition(" ") for line in table.splitlines() if not line.startswith("#")]
    return {name: members for name, _, members in lines}
