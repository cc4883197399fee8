"""Extended grapheme clusters, compared with the `regex` package and with worked examples."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import accumulate

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.unicode import classes
from stemma.tokenizers.unicode.classes import complement, union
from stemma.tokenizers.unicode.graphemes import boundaries, clusters, joins
from stemma.tokenizers.unicode.properties import ranges

PROPERTIES = (
    "Control", "Extend", "Prepend", "SpacingMark", "L", "V", "T", "LV", "LVT",
    "Regional_Indicator", "Extended_Pictographic", "Conjunct_Consonant", "Conjunct_Extend",
)  # fmt: skip
OTHERS = [[13], [10], [0x200D], [0x200C], list(range(32, 127))]

EXAMPLES = [
    (["e\u0301", "\r\n", "\n", "\r"], "marks, line ends"),
    (["\n", "\u0301\u200d", "\x00"], "a mark after a control character stands alone"),
    (["கொ", "டு", "நி", "க்", "ஷ"], "Tamil vowel signs; its virama binds no consonants"),
    (["क्षि", "क्\u200dष", "क्", "a"], "Devanagari conjuncts, also across a ZWJ"),
    (["ශ්\u200d", "රී", " ", "ලං"], "Sinhala: its virama binds no consonants"),
    (["가", "각", "ᄀ\u1161\u11a8", "ᄀᄀ가\u11a8", "한"], "Hangul"),
    (["🇩🇪", "🇫🇷", "🇮"], "flags are pairs"),
    (["👩\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "😀"], "emoji"),
    (["😀\u200d", "a", "b\u200d", "😀"], "a ZWJ binds nothing but two pictographs"),
    (["\u0600a", "\u0600\u0600", "\r\n"], "a prepended sign goes with what follows"),
    (["ก็", "น้ำ", "ไ", "ม้"], "Thai"),
]


def random_text(generator: random.Random) -> str:
    """Characters that stand at clusters' edges; a virama only where it has a consonant before it.

    (Where it has none, `regex` joins a consonant that follows: not so rule GB9c of 17.0.)
    """
    pools = [
        [code for first, last in ranges(name) for code in range(first, last + 1)]
        for name in generator.sample(PROPERTIES, generator.randint(1, 4))
    ] + OTHERS
    linkers = {code for first, last in ranges("Conjunct_Linker") for code in range(first, last + 1)}
    consonants = [c for f, last in ranges("Conjunct_Consonant") for c in range(f, last + 1)]
    pieces = []
    for _ in range(generator.randint(0, 20)):
        code = generator.choice(generator.choice(pools))
        if 0xD800 <= code < 0xE000:
            continue
        if code in linkers or generator.random() < 0.05:
            code = generator.choice(consonants)
            pieces.append(chr(code) + chr(generator.choice(sorted(linkers))))
        else:
            pieces.append(chr(code))
    return "".join(pieces)


@pytest.mark.parametrize(("expected", "what"), EXAMPLES, ids=[what for _, what in EXAMPLES])
def test_examples(expected: list[str], what: str) -> None:
    assert clusters("".join(expected)) == expected


def test_random_texts_are_cut_as_by_the_regex_package() -> None:
    generator = random.Random(1)
    pattern = regex.compile(r"\X")
    for _ in range(5000):
        text = random_text(generator)
        assert clusters(text) == pattern.findall(text), ascii(text)


def test_every_character_of_unicode_16_is_cut_as_by_the_regex_package() -> None:
    unknown = union(classes.ranges("Cn"), classes.ranges("Cs"))
    every = [chr(code) for f, last in complement(unknown) for code in range(f, last + 1)]
    text = "".join(f"a{c}a{c}\u0301{c}" for c in every)
    assert clusters(text) == regex.findall(r"\X", text)


@given(
    st.text() | st.text("aकषठ\u094d\u093c\u200dé\u0301😀👍🏽🇮🇳\r\n가ᄀ\u1161\u11a8\u0600\u0903\x00")
)
def test_the_state_machine_says_the_same(text: str) -> None:
    assert list(boundaries(text)) == list(accumulate(map(len, clusters(text))))


def test_the_state_machine_says_the_same_of_random_texts(
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    generator = random.Random(2)
    for text in [*random_texts(1000, 5), *(random_text(generator) for _ in range(3000))]:
        assert list(boundaries(text)) == list(accumulate(map(len, clusters(text)))), ascii(text)


@given(st.text())
def test_clusters_joined_are_the_text(text: str) -> None:
    found = clusters(text)
    assert "".join(found) == text
    assert "" not in found
    assert [clusters(cluster) for cluster in found] == [[cluster] for cluster in found]


@given(st.text() | st.text("aé\u0301क\u094d🇮\r\n"))
def test_where_nothing_joins_every_character_is_a_cluster(text: str) -> None:
    if joins(text) is None:
        assert clusters(text) == list(text)
    elif len(clusters(text)) < len(text):
        assert clusters(text[: joins(text)]) == list(text[: joins(text)])


def test_long_runs_take_time_in_proportion() -> None:
    for run in ("\u0301", "\u094d", "क\u094d", "क\u093c", "🇮", "😀\u200d", "ᄀ", "\u0600", "\r\n"):
        text = "क" + run * 200_000
        assert sum(map(len, clusters(text))) == len(text)
