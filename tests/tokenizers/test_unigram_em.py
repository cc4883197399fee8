"""The steps of Unigram training: their numbers, and what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.unigram.em import UnigramTraining, digamma_function, m_step
from stemma.tokenizers.unigram.words import count_unigram_words

EULER = 0.5772156649015329
FAST = pytest.mark.parametrize("fast", [False, True])
WORDS = st.dictionaries(
    st.text("abc▁", min_size=1, max_size=9), st.integers(1, 50), min_size=1, max_size=12
)


@pytest.mark.parametrize(
    ("x", "value"),
    [
        (1.0, -EULER),
        (0.5, -EULER - 2 * math.log(2)),
        (2.0, 1 - EULER),
        (10.0, sum(1 / n for n in range(1, 10)) - EULER),
        (1e9, math.log(1e9) - 0.5e-9),
    ],
)
def test_digamma(x: float, value: float) -> None:
    assert digamma_function(np.array([x]))[0] == pytest.approx(value, abs=1e-12)


def test_a_hand_worked_m_step() -> None:
    # 5/3, 4/3 and 2/3 of 11/3 are 5/11, 4/11 and 2/11.
    counts = np.array([5 / 3, 4 / 3, 2 / 3])
    assert np.exp(m_step(counts, digamma=False)) == pytest.approx([5 / 11, 4 / 11, 2 / 11])
    # ψ(1) - ψ(3) = -1 - 1/2, ψ(2) - ψ(3) = -1/2.
    assert m_step(np.array([1.0, 2.0]), digamma=True) == pytest.approx([-1.5, -0.5])


def test_what_is_not_expected_keeps_a_probability() -> None:
    assert np.exp(m_step(np.array([0.0, 3.5]), digamma=False)) == pytest.approx([1 / 8, 7 / 8])
    assert np.isfinite(m_step(np.array([0.0, 3.5]), digamma=True)).all()


@FAST
@given(words=WORDS)
def test_likelihood_never_falls_between_prunings(fast: bool, words: dict[str, int]) -> None:
    # That is what EM promises of its M-step without a prior, and without a least count.
    training = UnigramTraining(words, fast=fast, min_count=2)
    before = -math.inf
    for _ in range(6):
        likelihood = training.em_step(digamma=False)
        training.log_p = m_step(training.counts, digamma=False, least=1e-300)
        assert likelihood >= before - 1e-9 * (1 + abs(likelihood))
        before = likelihood


def test_likelihood_never_falls_on_real_words(mirror: Callable[[str], Path]) -> None:
    # Nor does it here with a least count, which a few characters of no further use need.
    text = mirror("text/sherlock.txt").read_text("utf-8")
    training = UnigramTraining(count_unigram_words([text]), fast=True)
    while len(training) > 1_000:
        likelihoods = [training.em_step(digamma=False) for _ in range(5)]
        assert likelihoods == sorted(likelihoods)
        training.prune(max(1_000, int(0.75 * len(training))))


@FAST
def test_the_worst_piece_goes_first(fast: bool) -> None:
    # Of about 21 pieces, abab is spelled by a common one, and cd only by two rare ones:
    # 9 [log 9/21 - 2 log 18/30] = 1.6 is less than 3 [log 3/21 - 2 log 3/24] = 6.6.
    training = UnigramTraining({"abab": 9, "ab": 9, "cd": 3}, fast=fast)
    assert training.lattice.pieces() == ["a", "ab", "abab", "b", "c", "cd", "d"]
    training.em_step(digamma=False)
    training.prune(6)
    assert training.lattice.pieces() == ["a", "ab", "b", "c", "cd", "d"]
    training.em_step(digamma=False)
    training.prune(5)
    assert training.lattice.pieces() == ["a", "ab", "b", "c", "d"]


@FAST
def test_of_equal_pieces_the_first_stays(fast: bool) -> None:
    pairs = [chr(i) + chr(i + 1) for i in range(0x4E00, 0x4E00 + 200, 2)]
    training = UnigramTraining(dict.fromkeys(reversed(pairs), 5), fast=fast)
    training.em_step(digamma=True)
    training.prune(230)
    assert [p for p in training.lattice.pieces() if len(p) > 1] == pairs[:30]


def test_what_differs_by_rounding_alone_is_equal() -> None:
    training = UnigramTraining({"abcd": 3, "abc": 3, "ab": 3}, fast=False)
    training.counts = np.array([9.0, 0.3, 0.3 + 1e-12, 2.0, 9.0, 9.0, 9.0])
    training.drop_rare(6)
    assert training.lattice.pieces() == ["a", "ab", "abcd", "b", "c", "d"]


@FAST
def test_rare_pieces_are_dropped_down_to_what_is_wanted(fast: bool) -> None:
    training = UnigramTraining({"abcd": 3, "abc": 3, "ab": 3}, fast=fast)
    assert training.lattice.pieces() == ["a", "ab", "abc", "abcd", "b", "c", "d"]
    training.counts = np.array([0.0, 0.4, 0.3, 0.5, 0.0, 0.0, 0.0])
    training.drop_rare(6)
    assert training.lattice.pieces() == ["a", "ab", "abcd", "b", "c", "d"]
    training.drop_rare(4)
    assert training.lattice.pieces() == ["a", "abcd", "b", "c", "d"]  # not less than 1/2
    training.drop_rare(4)
    assert len(training) == 5


@given(WORDS, st.booleans())
def test_both_forms_take_the_same_steps(words: dict[str, int], digamma: bool) -> None:
    one, other = (UnigramTraining(words, fast=fast, min_count=2) for fast in (False, True))
    for _ in range(4):
        assert one.em_step(digamma=digamma) == pytest.approx(other.em_step(digamma=digamma))
        for training in (one, other):
            training.drop_rare(3)
            training.prune(max(int(0.8 * len(training)), 4))
        assert one.lattice.pieces() == other.lattice.pieces()
        assert one.log_p == pytest.approx(other.log_p, abs=1e-9)
