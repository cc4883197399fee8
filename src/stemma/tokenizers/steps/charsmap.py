"""SentencePiece's precompiled character map: short strings and what each of them becomes.

The map is one block of bytes: the size of a trie (4 bytes, little-endian), the trie, and the
replacements, each ended by a zero byte. The trie is a *double array* (Aoe 1989, "An efficient
digital search algorithm by using a double-array structure") of 32-bit units, as the library
Darts-clone packs them. From the node at unit ``p``, byte ``c`` leads to unit ``q = p ^ offset(p) ^
c``, if this unit bears the label ``c``; where a string ends, unit ``q ^ offset(q)`` holds the place
of its replacement.

Two libraries read the same map in different ways, and models need either:

- SentencePiece replaces the *longest* string of the map at each place, from left to right;
- Hugging Face's ``tokenizers`` looks at one user-perceived character at a time (`graphemes`): if it
  has fewer than 6 bytes and *begins* with a string of the map, all of it is replaced by what the
  shortest such string becomes; otherwise its characters are looked up one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.steps.alignment import Alignment, Edit, align_edits, apply_edits
from stemma.tokenizers.unicode.classes import Range, in_brackets, union
from stemma.tokenizers.unicode.graphemes import clusters, joins

CLUSTER_BYTES = 6
"""``tokenizers`` looks up only shorter clusters as a whole."""

LONGEST = 256
"""No string of a map is sought that has more characters."""

NOTHING = "(?!)"
"""A pattern that is found nowhere."""

# The bits of a unit: whether it is the place of a replacement (and that place); else the byte that
# leads to it and whether a string of the map ends there. How far its children stand: see `_offset`.
_IS_PLACE = 0x80000000
_PLACE = 0x7FFFFFFF
_LABEL = 0x800000FF
_ENDS = 0x100

Unit = TypeVar("Unit", int, NDArray[np.int64])

_BEYOND = ((0x10000, 0x10FFFF),)
"""Every character beyond the first plane is looked up: a class of many such ranges would be
slow."""


class Match(NamedTuple):
    """A string of the map found in a text: where it ends, and what it becomes."""

    end: int
    new: str


class Characters(NamedTuple):
    """Code points that are a string of a map, those that are a string's first or second, and those
    that are any but its first."""

    single: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    beyond: NDArray[np.int64]


@dataclass(frozen=True)
class CharsMap:
    """A precompiled map.

    Args:
        data: its bytes, as a SentencePiece model or a ``tokenizer.json`` holds them; may be empty.

    Raises:
        TokenizerError: if the bytes are no such map.
    """

    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.data:
            _check(self.data)

    def normalize(self, text: str) -> str:
        """The text after the map, as SentencePiece applies it."""
        return apply_edits(text, self.edits(text))

    def align(self, text: str) -> tuple[str, Alignment]:
        """`normalize`, and for each character the characters ``start:end`` of ``text``."""
        return align_edits(text, self.edits(text))

    def edits(self, text: str) -> Iterator[Edit]:
        """What SentencePiece changes: the longest string of the map at each place."""
        if not self.data:
            return
        search = self._candidates.search
        at = 0
        while (found := search(text, at)) is not None:
            start = found.start()
            match = self.longest(text, start)
            if match is None:
                at = start + 1
            else:
                at = match.end
                yield start, at, match.new

    def longest(self, text: str, start: int) -> Match | None:
        """The longest string of the map that ``text`` holds at ``start``."""
        best = None
        for match in self._matches(text, start):
            best = match
        return best

    def edits_by_cluster(self, text: str) -> Iterator[Edit]:
        """What ``tokenizers`` changes: each cluster by itself."""
        if not self.data:
            return
        if joins(text) is None:
            for found in self._singles.finditer(text):
                yield from self._characters(found[0], found.start())
            return
        at = 0
        known: dict[str, list[Edit]] = {}
        for cluster in clusters(text):
            changes = known.get(cluster)
            if changes is None:
                changes = known[cluster] = list(self._changes(cluster))
            for start, end, new in changes:
                yield at + start, at + end, new
            at += len(cluster)

    def _changes(self, cluster: str) -> Iterator[Edit]:
        if self._candidates.search(cluster) is None:
            return
        match = self.shortest(cluster) if len(cluster.encode()) < CLUSTER_BYTES else None
        if match is not None:
            yield 0, len(cluster), match.new
        else:
            yield from self._characters(cluster, 0)

    def _characters(self, text: str, start: int) -> Iterator[Edit]:
        for i, character in enumerate(text, start):
            if (match := self.shortest(character)) is not None:
                yield i, i + 1, match.new

    def shortest(self, text: str) -> Match | None:
        """The shortest string of the map with which ``text`` begins."""
        return next(self._matches(text, 0), None)

    def _matches(self, text: str, start: int) -> Iterator[Match]:
        """The strings of the map that ``text`` holds at ``start``, from the shortest on."""
        units, node = self._units, 0
        for end, character in enumerate(text[start : start + LONGEST], start + 1):
            for byte in character.encode():
                child = node ^ _offset(units[node]) ^ byte
                if child >= len(units) or units[child] & _LABEL != byte:
                    return
                node = child
            if units[node] & _ENDS:
                yield Match(end, self._replacement(units[node ^ _offset(units[node])] & _PLACE))

    def _replacement(self, place: int) -> str:
        return self._strings[place : self._strings.index(b"\0", place)].decode()

    @cached_property
    def _units(self) -> list[int]:
        units: list[int] = self._array.tolist()
        return units

    @cached_property
    def _array(self) -> NDArray[np.uint32]:
        return np.frombuffer(self.data, "<u4", _trie_bytes(self.data) // 4, offset=4)

    @cached_property
    def _strings(self) -> bytes:
        return self.data[4 + _trie_bytes(self.data) :]

    @cached_property
    def characters(self) -> Characters:
        """Which characters the map knows, and where in its strings."""
        if not self.data:
            return Characters(*[np.zeros(0, np.int64)] * 4)
        children = _Children(self._array)
        first, nodes = children.characters(np.zeros(1, np.int64))
        single = first[self._array[nodes] & _ENDS != 0]
        levels = [np.zeros(0, np.int64)]
        while nodes.size and len(levels) < LONGEST:
            codes, nodes = children.characters(nodes)
            levels.append(codes)
        second = levels[min(1, len(levels) - 1)]
        return Characters(single, first, second, np.unique(np.concatenate(levels)))

    def leads_on(self, character: str) -> bool:
        """Whether a string of the map begins with the character and has others behind it."""
        if not self.data:
            return False
        units, node = self._units, 0
        for byte in character.encode():
            node ^= _offset(units[node]) ^ byte
            if node >= len(units) or units[node] & _LABEL != byte:
                return False
        children = (node ^ _offset(units[node]) ^ byte for byte in range(1, 256))
        return any(
            child < len(units) and units[child] & _LABEL == byte
            for byte, child in enumerate(children, 1)
        )

    @cached_property
    def _singles(self) -> re.Pattern[str]:
        """Characters that the map may change, whatever stands beside them."""
        return re.compile(_class_of(self.characters.single))

    @cached_property
    def _candidates(self) -> re.Pattern[str]:
        """Where a string of the map may begin, judged by its first two characters."""
        first, second = _class_of(self.characters.first), _class_of(self.characters.second)
        return re.compile(f"{self._singles.pattern}|{first}(?={second})")


class _Children:
    """Where the bytes lead from many nodes of the trie at once.

    A unit with label ``c`` at place ``q`` belongs to the nodes from which ``c`` leads there: those
    whose place and offset, combined, are ``q ^ c``. Sorted by that, a node's children stand
    together.
    """

    def __init__(self, array: NDArray[np.uint32]) -> None:
        units = array.astype(np.int64)
        places = np.arange(units.size)
        labels = units & _LABEL
        origins = np.where((labels > 0) & (labels < 256), places ^ labels, -1)
        self._bases = places ^ _offset(units)
        self._places = np.argsort(origins, kind="stable")
        self._origins = origins[self._places]
        self._labels = labels

    def characters(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The characters that lead on from any of the nodes, and the nodes to which they lead."""
        _, first = np.unique(self._bases[nodes], return_index=True)
        nodes, codes = nodes[first], np.zeros(first.size, np.int64)
        missing = np.zeros(first.size, np.int64)
        done: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for position in range(4):
            parents, nodes, labels = self._step(nodes)
            if position == 0:
                missing = (labels >= 0xC0).astype(np.int64) + (labels >= 0xE0) + (labels >= 0xF0)
                codes = labels & np.array([0x7F, 0x1F, 0x0F, 0x07])[missing]
            else:
                missing = missing[parents] - 1
                codes = codes[parents] << 6 | labels & 0x3F
            done.append((codes[missing == 0], nodes[missing == 0]))
            nodes, codes, missing = (rows[missing > 0] for rows in (nodes, codes, missing))
        all_codes, all_nodes = (np.concatenate(column) for column in zip(*done, strict=True))
        return all_codes, all_nodes

    def _step(
        self, nodes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For each child of the nodes: which of the nodes is its parent, the child, its label."""
        low = np.searchsorted(self._origins, self._bases[nodes], "left")
        high = np.searchsorted(self._origins, self._bases[nodes], "right")
        counts = high - low
        parents = np.repeat(np.arange(nodes.size), counts)
        within = np.arange(parents.size) - np.repeat(np.cumsum(counts) - counts, counts)
        children = self._places[low[parents] + within]
        return parents, children, self._labels[children]


def _offset(unit: Unit) -> Unit:
    """How far from a node its children stand."""
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _class_of(codes: NDArray[np.int64]) -> str:
    """A class of the characters; beyond the first plane, of all of them if of any."""
    ranges: list[Range] = [(int(code), int(code)) for code in np.unique(codes[codes <= 0xFFFF])]
    beyond = _BEYOND if codes.size and int(codes.max()) > 0xFFFF else ()
    return f"[{in_brackets(union(ranges, beyond))}]" if codes.size else NOTHING


def _trie_bytes(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _check(data: bytes) -> None:
    size = _trie_bytes(data)
    if len(data) < 4 or size % 4 or not size or 4 + size > len(data):
        raise _damaged(f"its trie is said to have {size} bytes, but it has {len(data)} in all")
    units = np.frombuffer(data, "<u4", size // 4, offset=4).astype(np.int64)
    strings = data[4 + size :]
    ending = np.flatnonzero(units & (_IS_PLACE | _ENDS) == _ENDS)
    leaves = ending ^ _offset(units[ending])
    if leaves.size and leaves.max() >= units.size:
        raise _damaged(f"unit {leaves.max()} is named, but there are {units.size}")
    places = units[leaves] & _PLACE
    if places.size and (places.max() >= len(strings) or strings[-1]):
        raise _damaged("a replacement lies beyond its end")
    try:
        strings.decode()
    except UnicodeDecodeError as error:
        raise _damaged(f"the replacements are not UTF-8: {error}") from None
    if (np.frombuffer(strings, np.uint8)[places] & 0xC0 == 0x80).any():
        raise _damaged("a replacement begins inside a character")


def _damaged(what: str) -> TokenizerError:
    return TokenizerError(
        f"the character map is damaged: {what}", cure="Get the file that holds it anew."
    )
