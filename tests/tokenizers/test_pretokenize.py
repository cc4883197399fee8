from __future__ import annotations

from itertools import chain

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers import pretokenize
from stemma.tokenizers.pretokenize import compile_pattern, split_words


def words(text: str) -> list[str]:
    return list(chain.from_iterable(split_words(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't   stop", ["Don", "'t", "  ", " stop"]),
        ("a1b2 c3", ["a", "1", "b", "2", " c", "3"]),
        ("x  \n\n y ", ["x", "  \n\n", " y", " "]),
        ("DON'T 'LL", ["DON", "'", "T", " '", "LL"]),
        ("we'll!?...", ["we", "'ll", "!?..."]),
        ("\tq\u00a0\u00a0z", ["\t", "q", "\u00a0", "\u00a0", "z"]),
        ("", []),
    ],
)
def test_worked_examples(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(" \n'a1.", min_size=6))
def test_segments_have_the_words_of_the_whole(text: str) -> None:
    whole = words(text)
    assert "".join(whole) == text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "SEGMENT_CHARACTERS", 5)
        assert words(text) == whole


@pytest.mark.parametrize("name", [r"\p{L}", r"\p{N}", r"\s"])
def test_the_classes_are_tiktokens_for_every_character(name: str) -> None:
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    theirs = tiktoken.Encoding(
        "bytes",
        pat_str=name,
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={},
    )
    # What the pattern does not find, tiktoken leaves out.
    found = theirs.decode(theirs.encode_ordinary("".join(characters)))
    assert "".join(compile_pattern(f"[{name}]").findall("".join(characters))) == found
    assert found
