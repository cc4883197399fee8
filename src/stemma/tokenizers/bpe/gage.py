"""Byte-pair encoding as it began: a way to compress data (Gage 1994, "A New Algorithm for Data
Compression", The C Users Journal 12(2)).

Within a block, the commonest pair of bytes is replaced by a byte that does not occur in the block;
then the commonest pair of what there is now, and so on. A table tells which byte stands for which
pair, so that expanding needs no more than that table and a stack. Language models took from it the
idea of merging pairs, and dropped its limit: their tokens are no longer bytes (`bpe.basic`).

Compressed data::

    magic           b"GBP1"
    size, crc       length of the data as a varint, CRC-32 of it (4 bytes, little-endian)
    blocks          each: length, number of pairs, length of the payload (varints),
                    the table (3 bytes a pair: code, left, right), the payload

A varint has seven bits of a number in each byte, the lowest first; the highest bit says that more
follow.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError

BLOCK_SIZE = 1 << 15
"""Bytes in a block: a longer one pays for its table sooner, a shorter one has more unused bytes."""

LARGEST_BLOCK = 1 << 24

MAX_BYTES = 1 << 30
"""So much at most does `decompress` give, if it is not told another limit."""

_MAGIC = b"GBP1"
_ENTRY_BYTES = 3
_N = 256

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """A stretch of data, compressed.

    Args:
        size: its length before.
        table: code, left and right of each pair, in the order in which they were replaced.
        payload: what is left.
    """

    size: int
    table: tuple[tuple[int, int, int], ...]
    payload: bytes


def compress(data: bytes, *, block_size: int = BLOCK_SIZE) -> bytes:
    """Compress data; never more than 17 bytes and 9 for each block are added.

    Args:
        data: any bytes.
        block_size: bytes that share one table, 1 to 2^24.

    Raises:
        TokenizerError: if ``block_size`` is out of range.
    """
    parts = [_MAGIC, _varint(len(data)), zlib.crc32(data).to_bytes(4, "little")]
    for block in compress_blocks(data, block_size):
        parts += [
            _varint(block.size),
            _varint(len(block.table)),
            _varint(len(block.payload)),
            bytes(value for entry in block.table for value in entry),
            block.payload,
        ]
    return b"".join(parts)


def ratio(data: bytes, *, block_size: int = BLOCK_SIZE) -> float:
    """Length of the compressed data, tables and all, over length of the data.

    Raises:
        TokenizerError: if ``block_size`` is out of range, or there is no data.
    """
    if not data:
        raise TokenizerError("no data has no ratio")
    return len(compress(data, block_size=block_size)) / len(data)


def compress_blocks(data: bytes, block_size: int = BLOCK_SIZE) -> list[Block]:
    """Cut data into blocks and compress each; see `compress`."""
    if not 1 <= block_size <= LARGEST_BLOCK:
        raise TokenizerError(
            f"block_size is {block_size}", cure=f"Use a number from 1 to {LARGEST_BLOCK}."
        )
    row = np.frombuffer(data, np.uint8)
    return [
        _compress_block(row[start : start + block_size])
        for start in range(0, len(data), block_size)
    ]


def _compress_block(data: Bytes) -> Block:
    """Replace pairs while that saves more than their entries cost, and while bytes are unused.

    A pair that occurs n times saves n bytes and costs three. Of equally common pairs the one with
    the smallest left, then right byte is replaced; unused bytes are taken from the smallest on.
    """
    size = data.size
    table: list[tuple[int, int, int]] = []
    unused = np.flatnonzero(np.bincount(data, minlength=_N) == 0).tolist()
    for code in unused:
        counts = count_pairs(data)
        pair = int(counts.argmax())
        if counts[pair] <= _ENTRY_BYTES:
            break
        left, right = divmod(pair, _N)
        data = replace_pair(data, left, right, code)
        table.append((code, left, right))
    return Block(size, tuple(table), data.tobytes())


def count_pairs(data: Bytes) -> NDArray[np.int64]:
    """How often each pair could be replaced: ``aaa`` holds ``aa`` once.

    Returns:
        Counts of shape (65536,), at 256 * left + right.
    """
    pairs = _pairs(data)
    counts = np.bincount(pairs, minlength=_N * _N)
    double = np.flatnonzero(data[:-1] == data[1:])
    overlapping = double[_places_in_runs(double) % 2 == 1]
    np.subtract.at(counts, pairs[overlapping], 1)
    return counts


def replace_pair(data: Bytes, left: int, right: int, code: int) -> Bytes:
    """Replace every occurrence of a pair by one byte, from left to right."""
    found = np.flatnonzero(_pairs(data) == left * _N + right)
    if left == right:
        found = found[_places_in_runs(found) % 2 == 0]
    replaced = data.copy()
    replaced[found] = code
    kept = np.ones(data.size, np.bool_)
    kept[found + 1] = False
    return replaced[kept]


def _pairs(data: Bytes) -> NDArray[np.int64]:
    return data[:-1].astype(np.int64) * _N + data[1:]


def _places_in_runs(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2, ... along each run of successive numbers."""
    index = np.arange(positions.size)
    begins = np.ones(positions.size, np.bool_)
    begins[1:] = np.diff(positions) > 1
    return index - np.maximum.accumulate(np.where(begins, index, 0))


def decompress(data: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The data that `compress` was given.

    Args:
        data: compressed data.
        max_bytes: refuse what claims to be longer: a few bytes may stand for very many.

    Raises:
        TokenizerError: if the data is damaged, or is longer than ``max_bytes``.
    """
    reader = _Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise TokenizerError("is not data that `compress` made", where="the first 4 bytes")
    size = reader.varint()
    if size > max_bytes:
        raise TokenizerError(
            f"claims to hold {size} bytes, more than {max_bytes}",
            cure="Allow more with max_bytes, if you trust its source.",
        )
    crc = int.from_bytes(reader.take(4), "little")
    parts: list[bytes] = []
    left = size
    while left:
        block = reader.block(left)
        parts.append(expand(block))
        left -= block.size
    reader.end()
    whole = b"".join(parts)
    if zlib.crc32(whole) != crc:
        raise TokenizerError("the data is damaged: its checksum is another")
    return whole


def expand(block: Block) -> bytes:
    """The data of a block.

    A code's pair is put on a stack, the right half below the left. No code stands for itself (the
    table is in the order of its making), so that the stack never holds more than 257 bytes.

    Raises:
        TokenizerError: if the data is longer or shorter than the block says.
    """
    pairs = {code: (left, right) for code, left, right in block.table}
    out = bytearray()
    for byte in block.payload:
        stack = [byte]
        while stack:
            top = stack.pop()
            if top in pairs:
                left, right = pairs[top]
                stack += (right, left)
            else:
                out.append(top)
                if len(out) > block.size:
                    raise TokenizerError(f"a block holds more than the {block.size} bytes it says")
    if len(out) != block.size:
        raise TokenizerError(f"a block holds {len(out)} bytes and says {block.size}")
    return bytes(out)


class _Reader:
    """Reads compressed data from its beginning; whatever is missing or impossible is an error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, n: int) -> bytes:
        if n > len(self._data) - self._at:
            raise self._error(f"ends where {n} more bytes are needed")
        self._at += n
        return self._data[self._at - n : self._at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise self._error("holds a number of more than 63 bits")

    def block(self, most: int) -> Block:
        """The next block, which holds ``most`` bytes at most."""
        size, n_pairs, n_payload = self.varint(), self.varint(), self.varint()
        if not 1 <= size <= min(most, LARGEST_BLOCK) or n_payload > size or n_pairs >= _N:
            raise self._error(f"has a block of {size} bytes, {n_pairs} pairs, {n_payload} left")
        entries = iter(self.take(_ENTRY_BYTES * n_pairs))
        table = [(code, *islice(entries, 2)) for code in entries]
        return Block(size, self._checked(table), self.take(n_payload))

    def _checked(self, table: list[tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
        """A table none of whose codes is made of itself: each of bytes and of codes before it."""
        later = {code for code, _, _ in table}
        if len(later) != len(table):
            raise self._error("has a table with two pairs for one code")
        for code, left, right in table:
            if left in later or right in later:
                raise self._error(f"has a table whose code {code} is made of one not yet made")
            later.remove(code)
        return tuple((code, left, right) for code, left, right in table)

    def end(self) -> None:
        if self._at < len(self._data):
            raise self._error(f"has {len(self._data) - self._at} bytes too many")

    def _error(self, what: str) -> TokenizerError:
        return TokenizerError(
            f"compressed data {what}",
            where=f"byte {self._at}",
            cure="It is damaged or cut off: compress the original again.",
        )


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
