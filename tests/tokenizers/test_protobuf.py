from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.formats.protobuf import (
    BYTES,
    EIGHT_BYTES,
    FOUR_BYTES,
    VARINT,
    bytes_field,
    float_field,
    read_fields,
    varint_field,
)

VARINTS = st.integers(0, 2**64 - 1)


def test_the_examples_of_the_specification() -> None:
    message = bytes.fromhex("089601 12026869 1d0000803f 210100000000000000".replace(" ", ""))
    assert list(read_fields(message)) == [
        (1, VARINT, 150),
        (2, BYTES, b"hi"),
        (3, FOUR_BYTES, struct.pack("<f", 1.0)),
        (4, EIGHT_BYTES, bytes.fromhex("0100000000000000")),
    ]
    assert varint_field(1, 150) + bytes_field(2, b"hi") + float_field(3, 1.0) == message[:12]


def test_negative_numbers_are_twos_complement() -> None:
    assert varint_field(43, -1) == bytes.fromhex("d802" + "ff" * 9 + "01")
    assert list(read_fields(varint_field(43, -1))) == [(43, VARINT, 2**64 - 1)]


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), VARINTS | st.binary(max_size=300))))
def test_what_is_written_is_read(fields: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(
        varint_field(number, value) if isinstance(value, int) else bytes_field(number, value)
        for number, value in fields
    )
    assert [(number, value) for number, _, value in read_fields(message)] == fields


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("08", "no end"),
        ("ff", "no end"),
        ("08" + "ff" * 10 + "01", "no end"),
        ("08" + "ff" * 9 + "02", "no end"),  # more than 64 bits
        ("08" + "80" * 9 + "02", "no end"),  # the smallest number of 65 bits
        ("12056869", "wants 5 bytes, 2 are left"),
        ("1d0000", "wants 4 bytes, 2 are left"),
        ("2100", "wants 8 bytes, 1 are left"),
        ("0b", "group 3"),
        ("0c", "group 4"),
        ("0e00", "wire type 6"),
        ("0000", "field number 0"),
    ],
)
def test_damaged_messages_are_refused(message: str, complaint: str) -> None:
    with pytest.raises(TokenizerError, match=complaint):
        list(read_fields(bytes.fromhex(message)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        fields = list(read_fields(message))
    except TokenizerError:
        return
    assert sum(len(f.value) for f in fields if isinstance(f.value, bytes)) <= len(message)


def test_a_float_that_single_precision_cannot_hold_is_refused() -> None:
    with pytest.raises(TokenizerError, match="single precision"):
        float_field(2, 1e39)
