"""The wire format of Protocol Buffers, as far as a vocabulary file needs it.

A message is a row of fields. Each begins with a key, ``number << 3 | wire type``, and goes on with
a value that the wire type tells the length of::

    08 96 01        field 1, wire type 0 (varint): 150
    12 02 68 69     field 2, wire type 2 (bytes), 2 of them: b"hi"
    1d 00 00 80 3f  field 3, wire type 5 (4 bytes): the float 1.0

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from stemma.errors import TokenizerError

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
_GROUPS = (3, 4)
_LONGEST_VARINT = 10
_LARGEST_NUMBER = (1 << 29) - 1


class Field(NamedTuple):
    """One field of a message: a varint as an integer, anything else as its bytes."""

    number: int
    wire_type: int
    value: int | bytes


def read_fields(message: bytes) -> Iterator[Field]:
    """The fields of ``message`` in their order; those of a message within it are not opened.

    Raises:
        TokenizerError: if the message ends within a field or is not of this format.
    """
    at = 0
    while at < len(message):
        field, at = read_field(message, at)
        yield field


def read_field(message: bytes, start: int) -> tuple[Field, int]:
    """The field that begins at ``start``, and where the next one does; see `read_fields`."""
    key, at = _read_varint(message, start)
    number, wire_type = key >> 3, key & 7
    if not 0 < number <= _LARGEST_NUMBER:
        raise _damaged(f"field number {number} does not exist", start)
    if wire_type == VARINT:
        value, at = _read_varint(message, at)
        return Field(number, wire_type, value), at
    if wire_type == BYTES:
        size, at = _read_varint(message, at)
    elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
        size = 8 if wire_type == EIGHT_BYTES else 4
    else:
        kind = "group" if wire_type in _GROUPS else "wire type"
        raise _damaged(f"field {number} has {kind} {wire_type}", start)
    left = len(message) - at
    if size > left:
        raise _damaged(f"field {number} wants {size} bytes, {left} are left", start)
    return Field(number, wire_type, message[at : at + size]), at + size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the low ones first; the highest bit says that more follow."""
    value = 0
    for i, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + i + 1
    raise _damaged("a number has no end", at)


def _damaged(what: str, at: int) -> TokenizerError:
    return TokenizerError(f"is damaged: {what} (byte {at} of the message)")


def varint_field(number: int, value: int) -> bytes:
    """A field with an integer; a negative one is written as its two's complement of 64 bits."""
    return _varint(number << 3 | VARINT) + _varint(value % (1 << 64))


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with bytes: a text in UTF-8, or a message."""
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def float_field(number: int, value: float) -> bytes:
    """A field with a number of single precision.

    Raises:
        TokenizerError: if it is larger than single precision can hold.
    """
    try:
        return _varint(number << 3 | FOUR_BYTES) + struct.pack("<f", value)
    except OverflowError:
        raise TokenizerError(f"{value} does not fit single precision") from None


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
