"""Patterns mean what Oniguruma, the library behind ``tokenizer.json``, takes them to mean."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.scan.patterns import RULES
from stemma.tokenizers.steps.oniguruma import compile_regex, oniguruma_pattern, portable
from stemma.tokenizers.steps.pre_tokenizers import Split

CASES = [
    (r"\bx", "²x x ax"),
    (r"x\B", "xx x"),
    ("$", "a\nb\n"),
    ("^", "a\nb\n"),
    (r"\Z", "a\nb\n"),
    (r"\z", "a\nb\n"),
    (r"\A", "a\nb\n"),
    ("a{2}+", "aaaaa"),
    (r"\p{N}{1,3}+", "12345"),
    ("[ab]{2}+c", "ababc"),
    ("(?:a|b){2}+", "ababa"),
    ("(?:(ab){2})+", "ababababab"),
    ("a++a", "aaa"),
    ("a?+a", "a"),
    (r"\R", "\r\n"),
    ("a{,2}", "aaa"),
    ("a{2", "a{2"),
    ("a{}", "a{}"),
    ("[a-]", "-"),
    ("[^]a]", "x]a"),
    ("[]a]", "]"),
    (r"\x{41}\u0042\x43", "ABC"),
    (r"\S++$", "ab\nc"),
    ("'(?i:[sdmt]|ll|ve|re)", "don'T'ſ"),
    ("(?i:straße)", "STRASSE"),
    ("a*?", "aa"),
    ("(?<!a)b", "abb"),
    ("(?>a|ab)c", "abc"),
    (r"\e\a\v\0", "\x1b\a\v\0"),
    (r"\p{^L}+", "a1b"),
    ("[a[bc]]+", "abc"),
    ("[a-z&&[^b]]+", "abc"),
    ("(a|b)(c)", "acbc"),
    (r"\d{1,3}(?=(?:\d{3})*\b)", "1234567 x12"),
    ("[[:alpha:][:digit:]]+", "a1-²"),
    ("[^[:^punct:]]+", "a.,b"),
    (r"(?=(\d{3})+(?!\d))", "1234567"),
    (".", "a\nb"),
    (r"\h+", "0fG"),
    ("a{2}?", "aaa"),
    ("[~|-]+", "a~|-"),
    ("(?<!x)[a~~b||c]+", "a~b|c-"),
    (r"[\p{Han}\p{Thai}]+", "a漢ไ"),
]


def theirs(pattern: str, text: str) -> list[tuple[str, tuple[int, int]]]:
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    found: list[tuple[str, tuple[int, int]]] = split.pre_tokenize_str(text)
    return found


def ours(pattern: str, text: str) -> list[tuple[str, tuple[int, int]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = Split(pattern, True, "Isolated").split(text)
    return [(word, (start, end)) for word, start, end in words]


@pytest.mark.parametrize(("pattern", "text"), CASES)
def test_it_matches_where_oniguruma_matches(pattern: str, text: str) -> None:
    assert ours(pattern, text) == theirs(pattern, text)
    assert ours(portable(pattern), text) == theirs(portable(pattern), text)


@given(
    st.text(
        st.sampled_from("aAbsStT'ſKk1²é \n\r-_\u200d\u0301")
        | st.characters(exclude_categories=["Cs"])
    )
)
def test_it_does_so_on_any_text(text: str) -> None:
    for pattern, _ in CASES:
        assert ours(pattern, text) == theirs(pattern, text)


@pytest.mark.parametrize("text", [r"\w", r"[\w]", r"\W", r"[^\w\s]", r"\d", r"\s", r"\p{L}", "."])
def test_every_character_of_unicode_belongs_to_the_same_class(text: str) -> None:
    pattern = compile_regex(text)
    code_points = [*range(0xD800), *range(0xE000, 0x110000)]
    removing = tokenizers.pre_tokenizers.Split(tokenizers.Regex(text), "removed")
    for start in range(0, len(code_points), 8192):
        some = "".join(map(chr, code_points[start : start + 8192]))
        kept = {at for _, span in removing.pre_tokenize_str(some) for at in range(*span)}
        assert kept == {at for at, c in enumerate(some) if not pattern.search(c, 0)}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_models_are_written_so_that_oniguruma_cuts_alike(
    name: str, awkward: list[str], random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    """In tiktoken's dialect, in which they are kept, ``$`` and ``{1,3}+`` mean something else."""
    from stemma.tokenizers.scan.words import WordSplitter

    splitter = WordSplitter(name)
    split: Any = [
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(oniguruma_pattern(pattern)), "isolated")
        for pattern in RULES[name]
    ]
    together = tokenizers.pre_tokenizers.Sequence(split)
    for text in [*awkward, *random_texts(300, 8), "a  \n  ", "12345 \n"]:
        assert splitter.split(text) == [word for word, _ in together.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    "pattern",
    [
        "(", ")", "[", "(?<n>a)", "(?m:.)", r"\K", r"\G", r"(a)\1", r"\p{Klingon}", r"\p{L",
        "[[:klingon:]]", "a{99999999999}", "(" * 5000 + ")" * 5000, "*", "(?", "[b-a]",
    ],
    ids=lambda pattern: pattern[:20],
)  # fmt: skip
def test_what_is_no_pattern_or_cannot_be_said_is_refused(pattern: str) -> None:
    with pytest.raises(TokenizerError, match=r"no regular expression|does not have"):
        compile_regex(pattern)


@given(st.text(st.sampled_from(r"ab\dwsp{L}[]()^$*+?|,12:-&.!=<>\n"), max_size=20))
def test_any_string_is_a_pattern_or_is_refused(pattern: str) -> None:
    try:
        found = compile_regex(pattern)
    except TokenizerError:
        return
    found.search("ab12 \n", 0)


def test_the_slow_path_says_so() -> None:
    with pytest.warns(UserWarning, match="takes the slow path, the regex package"):
        compile_regex(r"(?<=a)b|c(?=de)")
