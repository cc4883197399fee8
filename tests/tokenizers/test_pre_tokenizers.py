"""Every pre-tokeniser cuts like the one of its name in Hugging Face's library."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.steps import pre_tokenizers
from stemma.tokenizers.steps.pre_tokenizers import (
    BertPreTokenizer,
    Digits,
    Metaspace,
    Punctuation,
    Sequence,
    Split,
    Whitespace,
    WhitespaceSplit,
    from_json,
)
from stemma.tokenizers.wordwise import Word

BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
PATTERNS = [
    *({"String": text} for text in ("a", "--", " ", "", "ab")),
    *(
        {"Regex": text}
        for text in (r"\s+", r"\p{L}+", "a*", r"\w+|[^\w\s]+", "(?:a|b)*c?", r"\p{N}{1,3}", "")
    ),
]
STEPS: list[dict[str, Any]] = [
    {"type": "Whitespace"},
    {"type": "WhitespaceSplit"},
    {"type": "BertPreTokenizer"},
    *({"type": "CharDelimiterSplit", "delimiter": mark} for mark in " a^-]\\"),
    *({"type": "Digits", "individual_digits": each} for each in (True, False)),
    *({"type": "FixedLength", "length": length} for length in (1, 3, 5)),
    *({"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS),
    *(
        {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": split}
        for mark in "▁_"
        for scheme in ("first", "always", "never")
        for split in (True, False)
    ),
    *(
        {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
        for pattern in PATTERNS
        for behavior in BEHAVIORS
        for invert in (True, False)
    ),
]


@cache
def library(written: str) -> Any:
    model = {"type": "WordLevel", "vocab": {"u": 0}, "unk_token": "u"}
    document = {"version": "1.0", "pre_tokenizer": json.loads(written), "model": model}
    found = tokenizers.Tokenizer.from_str(json.dumps(document | REST)).pre_tokenizer
    assert found is not None
    return found


OTHER_STEPS = ("truncation", "padding", "normalizer", "post_processor", "decoder")
REST = {"added_tokens": []} | dict.fromkeys(OTHER_STEPS)


def assert_same(step: dict[str, Any], text: str) -> None:
    theirs = [Word(word, *span) for word, span in library(json.dumps(step)).pre_tokenize_str(text)]
    ours = from_json(step).split(text)
    assert [word.text for word in ours] == [word.text for word in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        # What stands for nothing in the text has the next character's span there.
        assert mine[1:] == other[1:] or mine.start == mine.end


@pytest.mark.parametrize("step", STEPS, ids=json.dumps)
def test_each_step_cuts_like_the_library(
    step: dict[str, Any],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    for text in [*awkward, *random_texts(40, 5)]:
        assert_same(step, text)


@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=3),
    text=st.text(
        min_size=1,
        alphabet=st.sampled_from("ab c--1٣ ▁_.\n\u3000'¡¹é中")
        | st.characters(exclude_categories=["Cs"]),
    ),
)
def test_so_do_several_one_within_another(steps: list[dict[str, Any]], text: str) -> None:
    assert_same({"type": "Sequence", "pretokenizers": steps}, text)


def characters() -> Iterator[list[str]]:
    code_points = [*range(0xD800), *range(0xE000, 0x110000)]
    for start in range(0, len(code_points), 8192):
        yield list(map(chr, code_points[start : start + 8192]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        {"type": "Whitespace"},
        {"type": "BertPreTokenizer"},
        {"type": "Punctuation", "behavior": "Removed"},
        {"type": "Digits", "individual_digits": False},
    ],
    ids=lambda step: step["type"],
)
def test_every_character_of_unicode_belongs_to_the_same_class(step: dict[str, Any]) -> None:
    for some in characters():
        assert_same(step, "a ".join(some))


def test_by_hand() -> None:
    text = "Don't pay $12.50!"
    words = {
        Whitespace(): ["Don", "'", "t", "pay", "$", "12", ".", "50", "!"],
        WhitespaceSplit(): ["Don't", "pay", "$12.50!"],
        BertPreTokenizer(): ["Don", "'", "t", "pay", "$", "12", ".", "50", "!"],
        Punctuation("MergedWithPrevious"): ["Don'", "t pay $", "12.", "50!"],
        Digits(individual_digits=True): ["Don't pay $", "1", "2", ".", "5", "0", "!"],
        Metaspace(): ["▁Don't", "▁pay", "▁$12.50!"],
        Split(r"\d+", True, "Contiguous"): ["Don't pay $", "12", ".", "50", "!"],
        Sequence((WhitespaceSplit(), Punctuation())): [
            "Don", "'", "t", "pay", "$", "12", ".", "50", "!",
        ],
    }  # fmt: skip
    for pre_tokenizer, expected in words.items():
        assert [word.text for word in pre_tokenizer.split(text)] == expected


def test_metaspace_knows_whether_the_text_begins() -> None:
    first = Metaspace(prepend_scheme="first")
    assert first.split("ab", at_start=True) == [Word("▁ab", 0, 2)]
    assert first.split("ab", at_start=False) == [Word("ab", 0, 2)]
    assert Metaspace().split("ab", at_start=False) == [Word("▁ab", 0, 2)]
    words = Sequence((WhitespaceSplit(), first))
    assert [word.text for word in words.split("ab cd")] == ["▁ab", "cd"]
    assert [word.text for word in words.split(" ab cd")] == ["ab", "cd"]
    for text in ("ab cd", " ab cd"):
        assert_same(words.to_json(), text)
    cut = Sequence((first, Split("", False, "Isolated")))
    assert cut.split("ab") == [Word("▁", 0, 0), Word("a", 0, 1), Word("b", 1, 2)]


@pytest.mark.parametrize("step", STEPS, ids=json.dumps)
def test_it_is_written_as_it_was_read(step: dict[str, Any]) -> None:
    assert from_json(step).to_json() == step
    sequence = {"type": "Sequence", "pretokenizers": [step, step]}
    assert from_json(sequence).to_json() == sequence


def test_older_files_say_metaspace_in_another_way() -> None:
    old = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"}
    assert from_json(old) == Metaspace()
    assert from_json(old | {"add_prefix_space": False}) == Metaspace(prepend_scheme="never")
    both = old | {"prepend_scheme": "first"}
    assert from_json(both) == Metaspace(prepend_scheme="first")
    with pytest.raises(TokenizerError, match="contradict"):
        from_json(both | {"add_prefix_space": False})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "ByteLevel"}, "asks for pre_tokenizer = ByteLevel"),
        ({"type": "UnicodeScripts"}, "asks for pre_tokenizer = UnicodeScripts"),
        ({"type": 7}, "pre_tokenizer.type is 7, not a string"),
        ({}, "pre_tokenizer.type is missing"),
        (["Digits"], "pre_tokenizer is .*, not an object"),
        ({"type": "Digits", "individual_digits": 1}, "is 1, not true or false"),
        ({"type": "Digits", "new": "x"}, 'asks for pre_tokenizer.new = "x"'),
        ({"type": "CharDelimiterSplit", "delimiter": "ab"}, "not one character"),
        ({"type": "FixedLength", "length": 0}, "not an integer from 1"),
        ({"type": "Punctuation", "behavior": "removed"}, "not one of Removed"),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "x"}, "not one of first"),
        ({"type": "Sequence", "pretokenizers": [{"type": "X"}]}, r"pretokenizers\[0\] = X"),
        ({"type": "Sequence", "pretokenizers": {}}, "not a list"),
        (
            {"type": "Split", "pattern": "a", "behavior": "Removed", "invert": False},
            "not an object",
        ),
        (
            {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed", "invert": False},
            "no regular expression",
        ),
        (
            {"type": "Split", "pattern": {}, "behavior": "Removed", "invert": False},
            "must hold one of String, Regex",
        ),
    ],
)
def test_what_makes_no_sense_is_named(step: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_json(step)


@pytest.mark.parametrize("step", STEPS, ids=json.dumps)
def test_spans_rise_and_never_leave_the_text(step: dict[str, Any]) -> None:
    generator = random.Random(3)
    pre_tokenizer = from_json({"type": "Sequence", "pretokenizers": [step, STEPS[5]]})
    for _ in range(50):
        text = "".join(generator.choices("ab c-▁1.", k=12))
        spans = [(word.start, word.end) for word in pre_tokenizer.split(text)]
        flat = [place for span in spans for place in span]
        assert flat == sorted(flat)
        assert all(0 <= place <= len(text) for place in flat)


@pytest.mark.parametrize("text", ["a", " ", "ab", "1", ".", "▁"])
def test_long_runs_take_time_in_proportion(text: str) -> None:
    """Each step sees 100,000 characters: one that took time n² would take hours."""
    steps = {step["type"] + str(step.get("behavior", "")): step for step in STEPS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in steps.values():
            words = from_json(step).split(text * 100_000)
            assert len(words) <= 200_001


def test_the_empty_text_has_no_words() -> None:
    for name in ("Whitespace", "Metaspace", "Sequence"):
        assert getattr(pre_tokenizers, name)().split("") == []


def test_a_text_may_be_cut_at_an_edge() -> None:
    """Both sides have the words of the whole, but for one that the edge may be within."""
    generator = random.Random(5)
    steps = [*map(from_json, STEPS)]
    found: set[str] = set()
    for _ in range(60_000):
        chosen = generator.choices(steps, k=generator.choice([1, 2]))
        step = chosen[0] if len(chosen) == 1 else Sequence(tuple(chosen))
        letters = generator.choice(["ab 1▁_\u3000-", "ab-", "a ▁"])
        text = "".join(generator.choices(letters, k=6))
        i = generator.randint(1, 5)
        sides = step.edge(generator.choice([text[i - 1], ""]), text[i])
        if sides is None:
            continue
        found.add(type(chosen[0]).__name__)
        at_start = generator.random() < 0.5
        left, right, whole = (
            [word for word, _, _ in step.split(part, at_start=at_start and part != text[i:])]
            for part in (text[:i], text[i:], text)
        )
        if sides != ("", "") and left + right != whole:
            assert (left[-1][-1:], right[0][:1]) == (sides[0] or left[-1][-1:], sides[1])
            left[-1:] = [left[-1] + right.pop(0)]
        assert left + right == whole, (step, text, i)
    assert {"Metaspace", "Split", "WhitespaceSplit", "CharDelimiterSplit"} <= found
