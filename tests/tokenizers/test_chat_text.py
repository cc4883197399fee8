"""Each character carries the number of its place, so that every result tells where it came from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.chat.text import (
    CALLER,
    TEMPLATE,
    UNCLEAR,
    AuthoredText,
    attributed,
    authors_of,
    is_authored,
    joined,
    sole_author,
)

FIRST = 100
LETTERS = st.text(alphabet="ab \n\tßİ<|>x", max_size=12)


def numbered(text: str) -> AuthoredText:
    return AuthoredText(text, "".join(chr(FIRST + i) for i in range(len(text))))


def assert_result(result: str, expected: str, source: str) -> None:
    """The text is right, and each numbered character is the one that stood at that place."""
    assert str.__str__(result) == expected
    authors = authors_of(result)
    assert len(authors) == len(result)
    for character, author in zip(expected, authors, strict=True):
        if ord(author) >= FIRST:
            assert source[ord(author) - FIRST] == character


SELECTING: dict[str, Callable[[str, str], object]] = {
    "strip": lambda s, a: s.strip(),
    "strip chars": lambda s, a: s.strip(a or None),
    "lstrip": lambda s, a: s.lstrip(a or None),
    "rstrip": lambda s, a: s.rstrip(a or None),
    "removeprefix": lambda s, a: s.removeprefix(a),
    "removesuffix": lambda s, a: s.removesuffix(a),
    "slice": lambda s, a: s[1:-1],
    "backwards": lambda s, a: s[::-1],
    "times": lambda s, a: 3 * s * 2,
    "add": lambda s, a: a + s + a,
    "replace": lambda s, a: s.replace(a, "+-"),
    "replace once": lambda s, a: s.replace(a, "+-", 1),
    "replace never": lambda s, a: s.replace(a, "+-", 0),
    "join": lambda s, a: s.join([a, a, a]),
    "str": lambda s, a: str(s),
    "split": lambda s, a: s.split(),
    "split at": lambda s, a: s.split(a or "x"),
    "split once": lambda s, a: s.split(a or None, 1),
    "rsplit": lambda s, a: s.rsplit(None, 1),
    "rsplit at": lambda s, a: s.rsplit(a or "x", 1),
    "lines": lambda s, a: s.splitlines(),
    "whole lines": lambda s, a: s.splitlines(keepends=True),
    "partition": lambda s, a: s.partition(a or "x"),
    "rpartition": lambda s, a: s.rpartition(a or "x"),
    "characters": lambda s, a: list(s),
}


@pytest.mark.parametrize("name", SELECTING)
@given(text=LETTERS, argument=st.one_of(LETTERS, st.sampled_from(["a", " ", "ab", "aa"])))
def test_characters_keep_their_authors(name: str, text: str, argument: str) -> None:
    expected = SELECTING[name](text, argument)
    result = SELECTING[name](numbered(text), argument)
    if isinstance(expected, str):
        expected, result = [expected], [result]
    assert len(result) == len(expected)
    for one, other in zip(result, expected, strict=True):
        assert isinstance(one, AuthoredText)
        assert_result(one, other, text)


@pytest.mark.parametrize("name", ["upper", "lower", "casefold", "capitalize", "title", "swapcase"])
@given(text=LETTERS)
def test_letter_case(name: str, text: str) -> None:
    result = getattr(numbered(text), name)()
    expected = getattr(text, name)()
    assert str.__str__(result) == expected
    same_length = len(expected) == len(text)
    wanted = authors_of(numbered(text)) if same_length else CALLER * len(expected)
    assert authors_of(result) == (wanted if len(text) != 1 else authors_of(result))
    alone = getattr(AuthoredText(text, "A" * len(text)), name)()
    assert authors_of(alone) == "A" * len(expected)


def test_by_hand() -> None:
    text = "<|im_" + AuthoredText("end|> x", "uuuuuuu") + "\n"
    assert text == "<|im_end|> x\n"
    assert authors_of(text) == TEMPLATE * 5 + "u" * 7 + TEMPLATE
    assert authors_of(text.replace("end|> ", "").rstrip()) == TEMPLATE * 5 + "u"
    assert authors_of(joined(["a", AuthoredText("b", "u"), "c"], "-")) == "\0\0u\0\0"
    assert hash(text) == hash("<|im_end|> x\n")
    assert {"user": 1}[AuthoredText("user", "uuuu")] == 1
    assert authors_of(AuthoredText("ab")) == UNCLEAR * 2


def test_what_cannot_be_followed() -> None:
    user, other, template = AuthoredText("u", "u"), AuthoredText("v", "v"), "t"
    assert authors_of(attributed("xx", [user])) == "uu"
    assert authors_of(attributed("xx", [user, [{"k": 1}["k"]], None])) == "uu"
    assert authors_of(attributed("xx", [user, {"a": other}])) == UNCLEAR * 2
    assert authors_of(attributed("xx", [user, {other: [user]}])) == CALLER * 2
    assert authors_of(attributed("xx", [user, template])) == UNCLEAR * 2
    assert sole_author([[template]]) == TEMPLATE
    assert is_authored([1, {"a": (user,)}])
    assert not is_authored([1, {"a": ("u",)}, "x"])
    with pytest.raises(TypeError):
        user + 1  # type: ignore[operator]
