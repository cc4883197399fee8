"""Suffix arrays against plain sorting, and all repeats of a text against counting."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stemma.tokenizers.kernels.suffix_array import repeats
from stemma.tokenizers.unigram.suffix_array import (
    common_prefixes,
    shared_lengths,
    sorted_suffixes,
    suffix_array,
)

TEXTS = st.one_of(
    st.lists(st.integers(0, 2), max_size=60),
    st.lists(st.integers(0, 1_200_000), max_size=40),
    st.builds(
        lambda part, n: part * n, st.lists(st.integers(0, 3), max_size=5), st.integers(0, 15)
    ),
)


def fibonacci(n: int) -> list[int]:
    """The word of rabbits: every substring of it occurs again soon."""
    one, two = [0], [0, 1]
    while len(two) < n:
        one, two = two, two + one
    return two[:n]


def test_banana() -> None:
    # a, ana, anana, banana, na, nana
    symbols = [ord(c) for c in "banana"]
    order = [5, 3, 1, 0, 4, 2]
    shared = [0, 1, 3, 0, 0, 2]
    assert sorted_suffixes(symbols) == order
    assert shared_lengths(symbols, order) == shared
    assert suffix_array(np.array(symbols)).tolist() == order
    assert common_prefixes(np.array(symbols), np.array(order)).tolist() == shared


@given(TEXTS)
@example([])
@example([0])
@example([0] * 50)
@example(fibonacci(300))
@example([5_000_000, 0, 5_000_000])
def test_both_forms_are_equal(symbols: list[int]) -> None:
    array = np.array(symbols, np.int64)
    order = suffix_array(array)
    assert order.tolist() == sorted_suffixes(symbols)
    assert common_prefixes(array, order).tolist() == shared_lengths(symbols, order.tolist())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_any_kind_of_integer_will_do(dtype: type[np.integer]) -> None:
    assert suffix_array(np.array([255, 0, 255], dtype)).tolist() == [1, 2, 0]


def test_a_megabyte_of_one_letter() -> None:
    # The shortest suffix comes first; each shares all of itself with the next. Comparing symbol by
    # symbol would take 5e11 steps.
    n = 1_000_000
    order = suffix_array(np.zeros(n, np.int32))
    assert np.array_equal(order, np.arange(n)[::-1])
    shared = common_prefixes(np.zeros(n, np.int32), order)
    assert np.array_equal(shared, np.arange(n))


def test_a_megabyte_of_repeated_text() -> None:
    period = np.random.default_rng(0).integers(0, 4, 1_000)
    symbols = np.tile(period, 1_000)
    order = suffix_array(symbols)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # Those a whole number of periods apart stand in a row, the shortest first.
    for start in range(0, 1_000, 97):
        alike = place[start::1_000]
        assert np.array_equal(alike, np.arange(alike[0], alike[0] - 1_000, -1))


@given(TEXTS.filter(bool), st.integers(1, 6))
def test_repeats_are_all_maximal_runs(symbols: list[int], limit: int) -> None:
    array = np.array(symbols, np.int64)
    order = suffix_array(array)
    room = np.minimum(len(symbols) - order, limit).astype(np.int32)
    shared = np.minimum(common_prefixes(array, order), limit).astype(np.int32)
    found = set(zip(*(part.tolist() for part in repeats(shared, room)), strict=True))

    places = defaultdict(list)
    for rank, start in enumerate(order.tolist()):
        for length in range(1, room[rank] + 1):
            places[tuple(symbols[start : start + length])].append(rank)
    longest: dict[tuple[int, int], int] = {}  # of the beginnings that the same suffixes share
    for beginning, ranks in places.items():
        assert ranks == list(range(ranks[0], ranks[-1] + 1))
        run = ranks[0], ranks[-1] + 1
        longest[run] = max(longest.get(run, 0), len(beginning))
    assert found == {(left, right, length) for (left, right), length in longest.items()}
