"""The pieces that training begins with: counted, and found in a suffix array."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.unigram.lattice import Lattice
from stemma.tokenizers.unigram.seeds import (
    fast_seed_lattice,
    frequent_substrings,
    seed_lattice,
)

LETTERS = "ab▁é\U0001f642"
WORDS = st.dictionaries(
    st.text(LETTERS, min_size=1, max_size=24), st.integers(1, 4), min_size=1, max_size=12
)


def test_hand_worked_candidates() -> None:
    # ab stands in both words, 3 times, and abc in all but one of these; bc, cd and their like occur
    # just as often as the longer abcd.
    assert frequent_substrings({"abcd": 2, "xab": 1}, 16, 2) == {"ab": 3, "abcd": 2}


def test_a_whole_word_is_a_candidate() -> None:
    # Nothing follows it that could differ: only the end of the word does.
    assert frequent_substrings({"▁Valkyria": 7}, 16, 3) == {"▁Valkyria": 7}


def test_what_is_too_long_is_cut_every_way() -> None:
    assert frequent_substrings({"abcd": 2}, 3, 2) == {"abc": 2, "bcd": 2}


def test_occurrences_may_overlap() -> None:
    # aa stands 3 times in aaaa, aaa twice.
    assert frequent_substrings({"aaaa": 1}, 16, 2) == {"aa": 3, "aaa": 2}


def assert_equal(one: tuple[Lattice, np.ndarray], other: tuple[Lattice, np.ndarray]) -> None:
    assert one[0].text == other[0].text
    assert one[0].pieces() == other[0].pieces()
    for name in ("starts", "weights", "first", "edges", "lengths"):
        here, there = getattr(one[0], name), getattr(other[0], name)
        assert np.array_equal(here, there), name
        assert here.dtype == there.dtype, name
    assert one[1].tolist() == other[1].tolist()


@given(WORDS, st.integers(1, 20), st.integers(1, 4), st.integers(0, 30), st.data())
def test_both_forms_are_equal(
    words: dict[str, int], max_length: int, min_count: int, seed_size: int, data: st.DataObject
) -> None:
    word = data.draw(st.sampled_from(sorted(words)))
    start = data.draw(st.integers(0, len(word) - 1))
    required = [word[start : data.draw(st.integers(start + 1, len(word)))]]
    options = {"max_length": max_length, "min_count": min_count, "seed_size": seed_size}
    slow = seed_lattice(words, required, **options)
    assert_equal(fast_seed_lattice(words, required, **options), slow)
    assert required[0] in slow[0].pieces()
    assert set("".join(words)) <= set(slow[0].pieces())


def test_both_forms_are_equal_on_real_words(random_texts) -> None:
    words = Counter(word for text in random_texts(60, 5) for word in text.split(" ") if word)
    options = {"max_length": 16, "min_count": 2, "seed_size": 300}
    assert_equal(fast_seed_lattice(words, [], **options), seed_lattice(words, [], **options))


@given(WORDS)
def test_nothing_longer_occurs_as_often(words: dict[str, int]) -> None:
    found = frequent_substrings(words, 8, 2)
    for piece, n in found.items():
        occurrences = sum(
            count * sum(word.startswith(piece, i) for i in range(len(word)))
            for word, count in words.items()
        )
        assert occurrences == n >= 2
        if len(piece) < 8:
            longer = (*(piece + c for c in LETTERS), *(c + piece for c in LETTERS))
            assert all(found.get(other, 0) < n for other in longer)


@pytest.mark.parametrize("make", [seed_lattice, fast_seed_lattice])
def test_the_best_candidates_are_kept(make) -> None:
    # count x length: abab 2 · 4 = 8, ab 4 · 2 = 8, cc and dd 3 · 2 = 6. Of equals the longest is
    # kept, then the first in the alphabet.
    words = {"▁abab": 1, "abab": 1, "cc": 3, "dd": 3}
    for size, expected in ((1, {"abab"}), (2, {"abab", "ab"}), (3, {"abab", "ab", "cc"})):
        lattice, _ = make(words, [], max_length=16, min_count=2, seed_size=size)
        assert {piece for piece in lattice.pieces() if len(piece) > 1} == expected
