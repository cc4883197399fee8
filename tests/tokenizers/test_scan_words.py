"""The rules of well-known models, against tiktoken, tokenizers and the regex package."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.scan.patterns import RULES, SYNONYMS, rule
from stemma.tokenizers.scan.words import SEGMENT_BYTES, WordSplitter, splitter
from stemma.tokenizers.unicode.classes import ranges, scripts

RandomTexts = Callable[[int, int], Iterator[str]]
every_rule = pytest.mark.parametrize("name", RULES)


def fast(words: WordSplitter, text: str) -> list[str]:
    data = np.frombuffer(text.encode() + bytes(16), np.uint8)
    ends = words.ends(data, np.array([data.size - 16], np.int32)).tolist()
    return [data[a:b].tobytes().decode() for a, b in zip([0, *ends], ends, strict=False)]


def by_regex(patterns: tuple[str, ...], text: str) -> list[str]:
    words = [text]
    for pattern in patterns:
        found = []
        for stretch in words:
            done = 0
            for match in regex.finditer(pattern, stretch):
                found += [stretch[done : match.start()], match[0]]
                done = match.end()
            found.append(stretch[done:])
        words = [word for word in found if word]
    return words


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt2", "Don't   stop", ["Don", "'t", "  ", " stop"]),
        ("gpt2", "a1b2 c3", ["a", "1", "b", "2", " c", "3"]),
        ("gpt2", "x  \n\n y ", ["x", "  \n\n", " y", " "]),
        ("gpt2", "DON'T 'LL", ["DON", "'", "T", " '", "LL"]),
        ("gpt2", "we'll!?...", ["we", "'ll", "!?..."]),
        ("gpt2", "\tq\u00a0\u00a0z", ["\t", "q", "\u00a0", "\u00a0", "z"]),
        ("gpt2", "", []),
        ("cl100k", "DON'T 12345 (x)\n\n", ["DON", "'T", " ", "123", "45", " (", "x", ")\n\n"]),
        ("o200k", "camelCaseIt's a/\n", ["camel", "Case", "It's", " a", "/\n"]),
        ("llama3", "it'ſ  1234", ["it", "'ſ", " ", " ", "123", "4"]),
        ("qwen2", "a 12", ["a", " ", "1", "2"]),
        ("smollm", "a 12b", ["a", " ", "1", "2", "b"]),
        ("deepseek-v3", "12中文abc", ["12", "中文", "abc"]),
    ],
)
def test_worked_examples(name: str, text: str, expected: list[str]) -> None:
    assert splitter(name).split(text) == expected
    assert fast(splitter(name), text) == expected


@every_rule
def test_words_are_those_of_the_regex_package(
    name: str, awkward: list[str], random_texts: RandomTexts
) -> None:
    """It knows a newer Unicode: what 16.0 does not assign is left out."""
    unassigned = {chr(c) for low, high in ranges("Cn") for c in range(low, high + 1)}
    for text in [*awkward, *random_texts(300, 4)]:
        known = "".join(c for c in text if c not in unassigned)
        assert splitter(name).split(known) == by_regex(rule(name), known)
        assert fast(splitter(name), text) == splitter(name).split(text)


@every_rule
def test_words_are_those_of_the_tokenizers_library(
    name: str, awkward: list[str], random_texts: RandomTexts
) -> None:
    pre = tokenizers.pre_tokenizers
    # Its regular expressions read {1,3}+ as repeating the repetition.
    patterns = [pattern.replace("{1,3}+", "{1,3}") for pattern in rule(name)]
    steps = [pre.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
    theirs = pre.Sequence(steps)
    for text in [*awkward, *random_texts(300, 6)]:
        assert splitter(name).split(text) == [word for word, _ in theirs.pre_tokenize_str(text)]


@every_rule
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text(" \n'aA1.", min_size=6))
def test_any_text_is_cut_into_itself(name: str, text: str) -> None:
    words = splitter(name).split(text)
    assert "".join(words) == text
    assert "" not in words
    assert fast(splitter(name), text) == words


@every_rule
def test_long_texts_are_cut_into_segments_with_the_same_words(
    name: str, random_texts: RandomTexts
) -> None:
    text = "".join(random_texts(12_000, 8))
    data = np.frombuffer(text.encode() + bytes(16), np.uint8)
    segments = list(splitter(name).segments(data, data.size - 16))
    assert len(segments) > 2
    assert all(end - start > SEGMENT_BYTES for start, end in segments[:-1])
    parts = [data[start:end].tobytes().decode() for start, end in segments]
    assert "".join(parts) == text
    assert [word for part in parts for word in fast(splitter(name), part)] == (
        splitter(name).split(text)
    )


@pytest.mark.parametrize("name", [r"\p{L}", r"\p{N}", r"\s", r"\p{Lu}", r"\p{M}", r"\p{Han}"])
def test_the_classes_are_tiktokens_for_every_character(name: str) -> None:
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    theirs = tiktoken.Encoding(
        "bytes",
        pat_str=name,
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={},
    )
    # What the pattern does not find, tiktoken leaves out.
    found = theirs.decode(theirs.encode_ordinary(everything))
    members = ranges({r"\s": "White_Space"}.get(name, name[3:-1]))
    assert "".join(chr(c) for low, high in members for c in range(low, high + 1)) == found
    assert found


def test_scripts_are_known() -> None:
    assert {"Han", "Latin", "Tamil", "Common"} <= set(scripts())


def test_a_pattern_beyond_the_machine_goes_the_slow_way_and_says_so() -> None:
    pattern = r"(?<=a)b+|[^b]|b"
    words = WordSplitter((pattern,))
    with pytest.warns(UserWarning, match="the regex package cuts by it, slowly"):
        assert words.split("abbcb") == ["a", "bb", "c", "b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert fast(words, "abbcb") == ["a", "bb", "c", "b"]


def test_a_pattern_with_groups_goes_the_slow_way_as_well() -> None:
    with pytest.warns(UserWarning, match="slowly"):
        assert WordSplitter((r"(\w)\1*|.",)).split("aab!") == ["aa", "b", "!"]


def test_a_broken_pattern_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(TokenizerError, match="not a regular expression"):
        WordSplitter(("(?<=a",))
    with pytest.raises(TokenizerError, match="no pattern named 'gpt9'"):
        WordSplitter("gpt9")


def test_synonyms_name_rules() -> None:
    assert set(SYNONYMS.values()) <= set(RULES)
