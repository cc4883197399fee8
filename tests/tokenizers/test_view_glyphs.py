from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.view.glyphs import encodable, glyph, glyphs, shortened, signs, visible


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b" the", "·the"),
        (b"\n\t\r", "⏎→␍"),
        (b"\x00\x1b[31m\x7f", "␀␛[31m␡"),
        (b"\xe2\x80", "<e280>"),
        (b" \xf0\x9fa\x99", "·<f09f>a<99>"),
        ("\u0301x".encode(), "◌\u0301x"),
        ("e\u0301".encode(), "e\u0301"),
        (b"\xcc\x81" + b"\xcc", "◌\u0301<cc>"),
        ("👩\u200d👩\ufe0f".encode(), "👩<zwj>👩<vs16>"),
        ("a\u00a0\u3000\ufeff\x85\u202e".encode(), "a<nbsp><wide space><bom><U+0085><U+202E>"),
        ("\ue000\U0010ffff".encode(), "<U+E000><U+10FFFF>"),
        (b"<b>", "<b>"),
    ],
)
def test_by_hand(data: bytes, expected: str) -> None:
    assert glyphs(data) == expected


@given(st.binary(max_size=30))
def test_nothing_hidden_is_left(data: bytes) -> None:
    shown = glyphs(data)
    assert bool(shown) == bool(data)
    categories = {unicodedata.category(character) for character in shown.replace("wide space", "")}
    assert not categories & {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
    assert not (shown and unicodedata.category(shown[0])[0] == "M")


@given(st.text(max_size=20))
def test_plain_text_stays(text: str) -> None:
    plain = "".join(c for c in text if c.isalnum())
    assert visible(plain) == plain
    assert visible(text, "ascii").isascii()


def test_what_a_place_cannot_show_is_escaped() -> None:
    assert glyphs("a é🙂\n".encode(), "ascii") == "a_\\xe9\\U0001f642\\n"
    assert glyphs("a é\n".encode(), "latin-1") == "a_é\\n"
    assert encodable("·⏎→", "utf-8") == "·⏎→"


def test_signs_tell_codes_from_text() -> None:
    data = b"<\xe2a" + "\u200d>".encode()
    assert list(signs(data)) == [
        ("<", False),
        ("<e2>", True),
        ("a", False),
        ("<zwj>", True),
        (">", False),
    ]
    assert glyph("<") == "<"


def test_shortened() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcde…hijk"
    assert encodable(shortened("abcdefghijk", 10), "ascii") == "abcde~hijk"
    for width in range(3, 12):
        short = shortened("abcdefghijklmn", width)
        assert len(short) == width
        assert short[0] == "a"
        assert "…" in short
