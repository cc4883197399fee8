from __future__ import annotations

import itertools
import math
from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.data.order import Permutation
from stemma.errors import DataError

MASK = (1 << 64) - 1


def permute_one_by_one(n: int, seed: int, stream: int, index: int) -> int:
    """The docstring of Permutation in plain integers, one index at a time."""
    a = math.ceil(math.sqrt(n))
    b = -(-n // a)
    digest = blake2b(f"stemma order 1/{n}/{seed}/{stream}".encode()).digest()
    keys = [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(8)]

    def mix(value: int) -> int:
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
        return value ^ (value >> 31)

    while True:
        left, right = divmod(index, a)
        for i in range(0, 8, 2):
            left = (left + mix((right + keys[i]) & MASK)) % b
            right = (right + mix((left + keys[i + 1]) & MASK)) % a
        index = left * a + right
        if index < n:
            return index


def test_the_order_never_changes_between_versions() -> None:
    assert Permutation(10, seed=0)(range(10)).tolist() == [2, 3, 0, 8, 4, 9, 1, 5, 6, 7]
    assert Permutation(1000, seed=7, stream=3)([0, 1, 2, 999]).tolist() == [295, 745, 130, 5]


@given(st.integers(1, 10**6), st.integers(-(2**70), 2**70), st.integers(0, 50), st.data())
def test_equals_the_definition_in_plain_integers(
    n: int, seed: int, stream: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, n - 1))
    expected = permute_one_by_one(n, seed, stream, index)
    assert Permutation(n, seed, stream)([index]).tolist() == [expected]


@settings(max_examples=200)
@given(st.integers(1, 5000), st.integers(0, 2**64))
def test_is_a_bijection_with_its_inverse(n: int, seed: int) -> None:
    order = Permutation(n, seed)
    image = order(np.arange(n))
    assert np.array_equal(np.sort(image), np.arange(n))
    assert np.array_equal(order.inverse(image), np.arange(n))


@pytest.mark.parametrize("n", [10**12, 1 << 62, (1 << 62) - 1, 2**31 + 1])
def test_spot_checks_of_a_range_that_no_memory_holds(n: int) -> None:
    order = Permutation(n, 3)
    indices = np.concatenate([np.arange(5000), n - 1 - np.arange(5000)])
    image = order(indices)
    assert 0 <= image.min() < n // 100
    assert n - n // 100 < image.max() < n
    assert len(set(image.tolist())) == indices.size
    assert np.array_equal(order.inverse(image), indices)


def test_an_index_goes_everywhere_equally_often() -> None:
    n, trials = 20, 4000
    images = np.array([Permutation(n, seed)(np.arange(n)) for seed in range(trials)])
    for index in range(n):
        counts = np.bincount(images[:, index], minlength=n)
        chi_square = float(((counts - trials / n) ** 2 / (trials / n)).sum())
        assert chi_square < 50  # 19 degrees of freedom: exceeded with probability 1.3e-4


def test_small_permutations_come_equally_often() -> None:
    counts = Counter(tuple(Permutation(4, seed)(range(4)).tolist()) for seed in range(24 * 200))
    chi_square = sum((counts[p] - 200) ** 2 / 200 for p in itertools.permutations(range(4)))
    assert chi_square < 55  # 23 degrees of freedom: exceeded with probability 2e-4


def test_neighbours_do_not_stay_neighbours() -> None:
    n = 10_000
    image = Permutation(n, 1)(np.arange(n)).astype(float)
    for lag in (1, 2, 100, 101):  # 100 is the width of the Feistel halves
        correlation = np.corrcoef(image[:-lag], image[lag:])[0, 1]
        assert abs(correlation) < 0.05  # five standard deviations


def test_streams_and_seeds_differ() -> None:
    orders = [Permutation(1000, seed, stream)(range(1000)) for seed in (0, 1) for stream in (0, 1)]
    for one, other in itertools.combinations(orders, 2):
        assert (one == other).sum() < 10


def test_keeps_the_shape_and_takes_nothing_too() -> None:
    order = Permutation(9, 0)
    assert order(np.arange(6).reshape(2, 3)).shape == (2, 3)
    assert order(4).shape == ()
    assert order([]).size == 0
    assert len(order) == 9


def test_bad_arguments() -> None:
    for n in (0, -1, (1 << 62) + 1):
        with pytest.raises(DataError, match="is not possible"):
            Permutation(n, 0)
    for index in (-1, 9):
        with pytest.raises(DataError, match=r"is not in 0 \.\. 8"):
            Permutation(9, 0)([0, index])
