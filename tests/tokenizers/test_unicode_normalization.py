"""Normal forms and lower case, in the versions of Unicode that Hugging Face's library has."""

from __future__ import annotations

import random
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.steps.alignment import Alignment
from stemma.tokenizers.unicode import case, properties
from stemma.tokenizers.unicode.normalization import Form, align, normalize
from tokenizers import normalizers as huggingface

FORMS: list[Form] = ["NFC", "NFD", "NFKC", "NFKD"]
EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
# Beyond the third plane there are only tags, variation selectors, and what nobody has assigned.
TRIED = [
    c for c in EVERY if c < "\U00033480" or "\U000e0000" <= c < "\U000e0200" or not ord(c) % 99
]
MARKS = [character for character in EVERY if unicodedata.combining(character)]
DECOMPOSED = [c for c in EVERY if unicodedata.decomposition(c) and not "가" <= c <= "힣"]
# Characters younger than Unicode 9.0 that newer versions decompose, compose or order.
YOUNG = "\u1df6\u08d3\u0898\U00011935\U00011930\U00011938\u32ff\U00010781\U0001e08f\U000110c2"
TEXTS = st.text(
    st.sampled_from(
        "aeoäéἊ\u0301\u0308\u0323\u0327\u0316\u0345ﬁ²Å\u212bᄀ\u1161\u11a8가각\u0958क\u093c"
    )
    | st.sampled_from(YOUNG)
    | st.characters(exclude_categories=["Cs"])
)


def random_texts(n: int, seed: int) -> Iterator[str]:
    """Marks in any order, characters that decompose, jamo, young characters, anything."""
    generator = random.Random(seed)
    jamo = [*map(chr, range(0x1100, 0x1200)), *map(chr, range(0xAC00, 0xAC40))]
    pools = [
        EVERY,
        MARKS,
        DECOMPOSED,
        jamo,
        list(YOUNG),
        list("aeiouAEIOU \u0301\u0323\u0327\u0316"),
    ]
    for _ in range(n):
        chosen = generator.sample(pools, generator.randint(1, 3))
        length = generator.randint(0, 14)
        yield "".join(generator.choice(generator.choice(chosen)) for _ in range(length))


def assert_rising(alignment: Alignment, text: str) -> None:
    starts = [start for start, _ in alignment]
    ends = [end for _, end in alignment]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(0 <= start <= end <= len(text) for start, end in alignment)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("NFC", "e\u0301", "é"),
        ("NFD", "é", "e\u0301"),
        ("NFC", "ﬁ²", "ﬁ²"),
        ("NFKC", "ﬁ²", "fi2"),
        ("NFKD", "ﬁé", "fie\u0301"),
        ("NFD", "a\u0301\u0323", "a\u0323\u0301"),  # the mark below comes first
        ("NFC", "a\u0301\u0323", "ạ\u0301"),
        ("NFC", "ᄀ\u1161\u11a8", "각"),
        ("NFD", "각", "ᄀ\u1161\u11a8"),
        ("NFC", "\u0958", "क\u093c"),  # never composed again
        ("NFC", "\u212b", "Å"),
        ("NFKC", "\u32ff", "\u32ff"),  # of 2019: not known yet
        ("NFD", "\U00011938", "\U00011938"),  # of 2020
        ("NFC", "e\u1df6\u0301", "e\u1df6\u0301"),  # an unknown mark stands between
    ],
)
def test_worked_examples(form: Form, text: str, expected: str) -> None:
    assert normalize(form, text) == expected
    assert align(form, text)[0] == expected


LONG_RUN = (
    "\u0301\u0316\u0327\u0344\u0345\u0f73\u0f75\u0f71\u093c\u094d\u3099\u20dd\u0903\U0001e8d0"
)


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(LONG_RUN + "aé\u1ab0\u08d3가", max_size=200))
def test_long_runs_of_marks_as_python_and_huggingface(form: Form, text: str) -> None:
    text = "o" + text + LONG_RUN * 5 + text + "한"
    known = text.replace("\u08d3", "")
    assert normalize(form, known) == unicodedata.normalize(form, known)
    assert normalize(form, text) == getattr(huggingface, form)().normalize_str(text)
    assert align(form, text)[0] == normalize(form, text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\u0344\u0316", "\u08d3\u0301\u0316"])
def test_python_is_given_no_long_run_to_sort(
    form: Form, marks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take n² steps: here they are counted."""
    passed = 0

    def counting(form: Form, text: str) -> str:
        nonlocal passed
        classes: list[int] = []  # of the marks since the last starter, sorted
        decomposed = "".join(python(form.replace("C", "D"), one) for one in text)
        for combining in map(unicodedata.combining, decomposed):
            at = bisect_right(classes, combining)
            passed += len(classes) - at
            classes[at:] = [combining, *classes[at:]] if combining else []
        return python(form, text)

    python = unicodedata.normalize
    monkeypatch.setattr(unicodedata, "normalize", counting)
    text = "a" + marks * 500 + "b"
    normalize(form, text)
    align(form, text)
    assert passed < 4 * len(text)


def test_what_each_character_came_from() -> None:
    assert align("NFD", "xéz") == ("xe\u0301z", [(0, 1), (1, 2), (1, 2), (2, 3)])
    assert align("NFC", "xe\u0301z") == ("xéz", [(0, 1), (1, 3), (3, 4)])
    assert align("NFKC", "ﬁé") == ("fié", [(0, 1), (0, 1), (1, 2)])
    # Marks that change places stand for all the places among which they did.
    assert align("NFD", "a\u0301\u0323b") == (
        "a\u0323\u0301b",
        [(0, 1), (1, 3), (1, 3), (3, 4)],
    )
    assert align("NFC", "a\u0301\u0323") == ("ạ\u0301", [(0, 3), (1, 3)])


@pytest.mark.parametrize("form", FORMS)
def test_every_character_as_huggingface(form: Form) -> None:
    text = "".join(f"a{c}a\u0323{c}\u0301" for c in TRIED)
    assert normalize(form, text) == getattr(huggingface, form)().normalize_str(text)


@pytest.mark.parametrize("form", FORMS)
def test_random_texts_as_huggingface(form: Form) -> None:
    oracle = getattr(huggingface, form)()
    for text in random_texts(4000, 11):
        assert normalize(form, text) == oracle.normalize_str(text), ascii(text)


@pytest.mark.parametrize("form", FORMS)
@given(text=TEXTS)
def test_the_algorithm_step_by_step_gives_the_same(form: Form, text: str) -> None:
    normalized, alignment = align(form, text)
    assert normalized == normalize(form, text)
    assert len(alignment) == len(normalized)
    assert_rising(alignment, text)


@pytest.mark.parametrize("form", FORMS)
def test_the_algorithm_gives_the_same_on_random_texts(form: Form) -> None:
    for text in random_texts(2000, 12):
        normalized, alignment = align(form, text)
        assert normalized == normalize(form, text), ascii(text)
        assert_rising(alignment, text)


@given(st.text())
def test_a_normal_form_is_normal(text: str) -> None:
    for form in FORMS:
        once = normalize(form, text)
        assert normalize(form, once) == once
    assert normalize("NFC", normalize("NFD", text)) == normalize("NFC", text)


def test_where_a_mark_came_from_is_a_part_that_has_it() -> None:
    for text in random_texts(500, 13):
        normalized, alignment = align("NFD", text)
        for character, (start, end) in zip(normalized, alignment, strict=True):
            assert character in normalize("NFD", text[start:end])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ÄÖÜ ΣΑΣ", "äöü σασ"),  # no final sigma
        ("İI", "i\u0307i"),
        ("ẞ Ǆ", "ß ǆ"),
        ("\ua7cb\U00016ea0", "\u0264\U00016ebb"),  # of 2024 and 2025
    ],
)
def test_lower_case(text: str, expected: str) -> None:
    assert case.lower(text) == expected
    assert case.align(text)[0] == expected


def test_where_small_letters_came_from() -> None:
    assert case.align("aİB") == ("ai\u0307b", [(0, 1), (1, 2), (1, 2), (2, 3)])
    assert case.align("ΑΣ") == ("ας"[0] + "σ", [(0, 1), (1, 2)])


def test_every_character_in_lower_case_as_huggingface() -> None:
    oracle = huggingface.Lowercase()
    text = "".join(f"a{c}Σ " for c in TRIED)
    assert case.lower(text) == oracle.normalize_str(text)


@given(st.text() | st.text("aΣςİIẞ\ua7cb "))
def test_lower_case_is_that_of_each_character(text: str) -> None:
    assert case.lower(text) == "".join(map(case.lower, text)) == case.align(text)[0]


def test_the_table_and_python_know_the_same_characters() -> None:
    unassigned = {
        code for f, last in properties.ranges("Unassigned_14") for code in range(f, last + 1)
    }
    older = {code for f, last in properties.ranges("Unassigned_9") for code in range(f, last + 1)}
    assert unassigned < older
    python = {ord(c) for c in EVERY if unicodedata.category(c) == "Cn"}
    assert python <= unassigned
    if unicodedata.unidata_version == "14.0.0":
        assert python == unassigned


@given(
    st.lists(st.tuples(st.integers(0, 0x10FFFF), st.integers(0, 300)), max_size=8),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_set_as_a_pattern(members: list[tuple[int, int]], text: str) -> None:
    import re

    ranges = [(first, min(first + n, 0x10FFFF)) for first, n in members]
    pattern = re.compile(properties.one_of(ranges))
    for character in [*text, *(chr(first) for first, _ in ranges), *"a\uffff\U00010000\U0010ffff"]:
        inside = any(first <= ord(character) <= last for first, last in ranges)
        assert (pattern.fullmatch(character) is not None) == inside
        assert (pattern.search("\0" + character) is not None) >= inside


def test_an_unknown_property_has_no_members() -> None:
    with pytest.raises(KeyError):
        properties.ranges("Nothing")
