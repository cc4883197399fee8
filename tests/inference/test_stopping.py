from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import ConfigError
from stemma.inference import StopStrings

# Few letters make overlaps, repetitions and near misses common.
LETTERS = "ab\né"
texts = st.text(LETTERS, max_size=40)
stop_strings = st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4)


def streamed(text: str, stops: list[str], cuts: list[int]) -> tuple[str, str | None]:
    """Push ``text`` in pieces; every prefix shown must be a prefix of the end result."""
    stopping = StopStrings(stops)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    shown = "".join(stopping.push(text[a:b]) for a, b in pairwise(edges))
    return shown + stopping.finish(), stopping.found


def cut_afterwards(text: str, stops: list[str]) -> str:
    """The oracle: read the whole text character by character, and look back at every one."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(texts, stop_strings, st.lists(st.integers(0, 100), max_size=10))
def test_streaming_equals_cutting_the_whole_text(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    shown, found = streamed(text, stops, cuts)
    assert shown == cut_afterwards(text, stops)
    assert (found is not None) == any(stop in text for stop in stops)


@given(texts, st.text(LETTERS, min_size=1, max_size=5), st.lists(st.integers(0, 100)))
def test_one_stop_string_cuts_at_its_first_occurrence(
    text: str, stop: str, cuts: list[int]
) -> None:
    assert streamed(text, [stop], cuts)[0] == text.partition(stop)[0]


@given(texts, stop_strings)
def test_what_is_shown_never_has_to_be_taken_back_nor_is_held_for_nothing(
    text: str, stops: list[str]
) -> None:
    stopping = StopStrings(stops)
    shown = ""
    for end, character in enumerate(text, start=1):
        shown += stopping.push(character)
        if stopping.found is not None:
            break
        rest = text[len(shown) : end]
        assert shown == text[: len(shown)]
        assert not rest or any(stop.startswith(rest) for stop in stops)


def test_a_beginning_is_held_back_until_it_is_decided() -> None:
    stopping = StopStrings(["\nUser:"])
    assert stopping.push("Hello.\nUs") == "Hello."
    assert stopping.push("eful") == "\nUseful"
    assert stopping.push("\nUser") == ""
    assert stopping.push(": and") == ""
    assert stopping.found == "\nUser:"
    assert stopping.push("more") == stopping.finish() == ""


def test_a_beginning_at_the_end_of_the_text_is_released() -> None:
    stopping = StopStrings(["END"])
    assert stopping.push("the EN") == "the "
    assert stopping.finish() == "EN"
    assert stopping.found is None


def test_the_stop_string_complete_first_wins() -> None:
    stopping = StopStrings(["abcd", "bc"])
    assert stopping.push("abcd") == "a"
    assert stopping.found == "bc"


def test_without_stop_strings_everything_passes_at_once() -> None:
    assert StopStrings().push("text") == "text"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="a stop string is empty"):
        StopStrings(["END", ""])
