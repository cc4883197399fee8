"""Many stretches of bytes at once: as one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.substrings import PADDING, Substrings

ROWS = st.lists(st.binary(max_size=20) | st.sampled_from([b"a" * 7, b"a" * 8, b"a" * 9, b"a" * 17]))


@given(ROWS, st.data())
def test_stretches_are_the_same_where_their_bytes_are(
    rows: list[bytes], data: st.DataObject
) -> None:
    others = [*rows]
    if rows and data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(rows) - 1))
        at = data.draw(st.integers(0, len(rows[i])))
        changed = data.draw(st.sampled_from([b"", b"a", b"b"]))
        others[i] = rows[i][:at] + changed + rows[i][at + 1 :]
    same = Substrings.joined(rows).same_as(Substrings.joined(others))
    assert same == (rows == others)


def test_every_byte_counts() -> None:
    for size in range(1, 35):
        for at in range(size):
            one = b"x" * size
            other = one[:at] + b"y" + one[at + 1 :]
            assert not Substrings.joined([b"", one]).same_as(Substrings.joined([b"", other]))


@given(ROWS.filter(lambda rows: len(rows) > 0), st.data())
def test_some_stretches_of_one_row(rows: list[bytes], data: st.DataObject) -> None:
    places = st.lists(st.integers(0, len(rows) - 1))
    one, other = data.draw(places), data.draw(places)
    joined = Substrings.joined(rows)
    same = joined.some(np.array(one, np.int64)).same_as(joined.some(np.array(other, np.int64)))
    assert same == ([rows[i] for i in one] == [rows[i] for i in other])


def _spaced(rows: list[bytes], space: int) -> Substrings:
    """The rows with some bytes before each and behind the last."""
    sizes = np.array([len(row) for row in rows], np.int64)
    starts = np.cumsum(sizes + space) - sizes
    data = b"".join(b"\xff" * space + row for row in rows) + b"\xff" + PADDING
    return Substrings(data, starts, sizes)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    st.integers(1, 9),
)
def test_texts_are_decoded_as_one_by_one(texts: list[str], space: int) -> None:
    assert _spaced([text.encode() for text in texts], space).decoded() == texts


def test_what_cannot_be_decoded_together_is_left_to_others() -> None:
    assert _spaced([b"a", b"b\0c"], 1).decoded() is None
    assert _spaced([b"a", b"\xc3"], 1).decoded() is None
    # Two halves of a character are no text, even if they would be one side by side.
    assert _spaced([b"\xc3", b"\xa9"], 1).decoded() is None
