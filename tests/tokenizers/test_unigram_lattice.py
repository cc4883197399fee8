"""Sums over all segmentations against going through each of them, and machine code against both."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.kernels import unigram_train as kernels
from stemma.tokenizers.unigram.lattice import Floats, Lattice, expected_counts, log_add, losses

WORDS = st.dictionaries(
    st.text("abc▁", min_size=1, max_size=9), st.integers(1, 50), min_size=1, max_size=6
)


def fast_counts(lattice: Lattice, log_p: Floats) -> tuple[Floats, float]:
    arrays = (lattice.starts, lattice.weights, lattice.first, lattice.edges, lattice.lengths)
    counts, total = kernels.expected_counts(*arrays, log_p, np.exp(log_p))
    return counts, total


def fast_losses(lattice: Lattice, log_p: Floats, counts: Floats) -> Floats:
    arrays = (lattice.first, lattice.edges, lattice.where, lattice.lengths)
    result: Floats = kernels.losses(*arrays, log_p, counts)
    return result


COUNTS = pytest.mark.parametrize("count", [expected_counts, fast_counts])
LOSSES = pytest.mark.parametrize("lose", [losses, fast_losses])


def segmentations(word: str, pieces: list[str]) -> Iterator[list[int]]:
    """All ways to spell a word with the pieces, as their numbers."""
    if not word:
        yield []
    for k, piece in enumerate(pieces):
        if word.startswith(piece):
            for rest in segmentations(word[len(piece) :], pieces):
                yield [k, *rest]


@st.composite
def models(draw: st.DrawFn) -> tuple[dict[str, int], list[str], Floats]:
    """Words, pieces that can spell them, and probabilities."""
    words = draw(WORDS)
    substrings = {
        word[i:j] for word in words for i in range(len(word)) for j in range(i + 2, len(word) + 1)
    }
    chosen = draw(st.sets(st.sampled_from(sorted(substrings)))) if substrings else set()
    pieces = sorted({*"".join(words), *chosen})
    p = np.random.default_rng(draw(st.integers(0, 1000))).dirichlet(np.ones(len(pieces)))
    return words, pieces, np.log(p)


@COUNTS
def test_a_hand_worked_step(count) -> None:
    # "ab" twice and "a" once; p(a) = 1/2, p(b) = 1/4, p(ab) = 1/4.
    # Z(ab) = p(ab) + p(a) p(b) = 1/4 + 1/8 = 3/8, so that ab is whole with probability 2/3;
    # c(ab) = 2 · 2/3, c(a) = 2 · 1/3 + 1, c(b) = 2 · 1/3. log L = 2 log 3/8 + log 1/2.
    lattice = Lattice.of({"ab": 2, "a": 1}, ["a", "ab", "b"])
    counts, total = count(lattice, np.log([1 / 2, 1 / 4, 1 / 4]))
    assert counts == pytest.approx([5 / 3, 4 / 3, 2 / 3])
    assert total == pytest.approx(-2.654806, abs=1e-6)


@LOSSES
def test_a_hand_worked_loss(lose) -> None:
    # a 5 times, ab 4 times, b twice: 11 pieces. Without ab there are a and b 4 times more, and 15:
    # 4 [log 4/11 - log 9/15 - log 6/15] = 4 [-1.011601 + 0.510826 + 0.916291] = 1.662062.
    lattice = Lattice.of({"ab": 2, "a": 1}, ["a", "ab", "b"])
    loss = lose(lattice, np.log([1 / 2, 1 / 4, 1 / 4]), np.array([5.0, 4.0, 2.0]))
    assert loss.tolist() == pytest.approx([math.inf, 1.662062, math.inf], abs=1e-6)


@LOSSES
def test_a_piece_never_used_is_no_loss(lose) -> None:
    lattice = Lattice.of({"ab": 2}, ["a", "ab", "b"])
    loss = lose(lattice, np.log([1 / 2, 1 / 4, 1 / 4]), np.array([5.0, 0.0, 2.0]))
    assert loss[1] == 0


@LOSSES
def test_the_best_of_the_other_segmentations_counts(lose) -> None:
    # abc is a|bc with 0.1 · 0.3 rather than ab|c with 0.2 · 0.1 or a|b|c with 0.001.
    pieces = ["a", "ab", "abc", "b", "bc", "c"]
    lattice = Lattice.of({"abc": 1}, pieces)
    log_p = np.log([0.1, 0.2, 0.2, 0.1, 0.3, 0.1])
    counts = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    loss = lose(lattice, log_p, counts)
    expected = 3 * (math.log(3 / 21) - math.log((1 + 3) / 24) - math.log((5 + 3) / 24))
    assert loss[2] == pytest.approx(expected)


@COUNTS
@given(model=models())
def test_counts_are_those_of_all_segmentations(count, model) -> None:
    words, pieces, log_p = model
    counts = np.zeros(len(pieces))
    total = 0.0
    for word, n in words.items():
        ways = list(segmentations(word, pieces))
        p = np.exp([sum(log_p[k] for k in way) for way in ways])
        total += n * math.log(p.sum())
        for way, share in zip(ways, p / p.sum(), strict=True):
            for k in way:
                counts[k] += n * share
    found, likelihood = count(Lattice.of(words, pieces), log_p)
    assert found == pytest.approx(counts, rel=1e-9, abs=1e-9)
    assert likelihood == pytest.approx(total, rel=1e-9)


@LOSSES
@given(model=models())
def test_losses_are_those_of_the_best_other_segmentation(lose, model) -> None:
    words, pieces, log_p = model
    counts = np.random.default_rng(len(pieces)).uniform(0.1, 9, len(pieces))
    found = lose(Lattice.of(words, pieces), log_p, counts)
    for x, piece in enumerate(pieces):
        ways = [way for way in segmentations(piece, pieces) if way != [x]]
        if not ways:
            assert found[x] == math.inf
            continue
        best = max(ways, key=lambda way: sum(log_p[k] for k in way))
        total = counts.sum()
        after = total + (len(best) - 1) * counts[x]
        lost = math.log(counts[x] / total)
        lost -= sum(math.log((counts[k] + counts[x]) / after) for k in best)
        assert found[x] == pytest.approx(counts[x] * lost, rel=1e-9, abs=1e-9)


@given(model=models())
def test_a_word_is_used_up_by_its_pieces(model) -> None:
    # Whatever the segmentation, its pieces together are as long as the word.
    words, pieces, log_p = model
    counts, _ = fast_counts(Lattice.of(words, pieces), log_p)
    length = sum(n * len(word) for word, n in words.items())
    assert counts @ [len(piece) for piece in pieces] == pytest.approx(length)


@COUNTS
@pytest.mark.parametrize(("p", "q"), [(1e-9, 1e-18), (0.6, 0.4), (1e-60, 0.9), (1e-150, 1e-290)])
@pytest.mark.parametrize("n", [10, 300, 3_000])
def test_long_words_do_not_underflow(count, n: int, p: float, q: float) -> None:
    # p(word) is as small as exp(-60 000). With pieces a and aa of probabilities p and q, the ways
    # to spell n letters follow a recurrence like Fibonacci's: Zₙ = p Zₙ₋₁ + q Zₙ₋₂.
    before, z, scale = 0.0, 1.0, 0.0
    for _ in range(n):
        before, z = z, p * z + q * before
        scale += math.log(z)
        before, z = before / z, 1.0
    counts, total = count(Lattice.of({"a" * n: 1}, ["a", "aa"]), np.log([p, q]))
    assert total == pytest.approx(scale, rel=1e-11)
    assert counts @ [1, 2] == pytest.approx(n, rel=1e-7)  # a log of -1e6 has ten digits left


@pytest.mark.parametrize(
    "pieces",
    [
        ["a", "ab", "abababababababab", "b", "ba", "bab", "babababababababa"],
        ["a", "abababababababab", "b"],
    ],
)
@pytest.mark.parametrize("rarest", [-1, -20, -40, -60, -300])
def test_both_forms_agree_however_rare_the_pieces(rarest: float, pieces: list[str]) -> None:
    # Sums are scaled up more than once within one long piece; from 650 / 16 on, logarithms serve.
    words = {("ab" * n)[n % 3 :]: n for n in range(2, 60)}
    lattice = Lattice.of(words, pieces)
    for seed in range(20):
        log_p = np.random.default_rng(seed).uniform(rarest, 0, len(pieces))
        log_p[[pieces.index("a"), pieces.index("b")]] = rarest
        log_p -= np.log(np.exp(log_p).sum())
        slow, fast = expected_counts(lattice, log_p), fast_counts(lattice, log_p)
        assert fast[0] == pytest.approx(slow[0], rel=1e-9, abs=1e-9)
        assert fast[1] == pytest.approx(slow[1], rel=1e-12)


@given(model=models(), seed=st.integers(0, 99))
def test_keeping_some_pieces_is_looking_up_these(model, seed: int) -> None:
    words, pieces, _ = model
    mask = np.random.default_rng(seed).random(len(pieces)) < 0.5
    mask |= [len(piece) == 1 for piece in pieces]
    kept = [piece for piece, keep in zip(pieces, mask, strict=True) if keep]
    small, whole = Lattice.of(words, kept), Lattice.of(words, pieces).keep(mask)
    assert whole.pieces() == small.pieces() == kept
    assert np.array_equal(whole.edges, small.edges)
    assert np.array_equal(whole.first, small.first)


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        (0.0, 0.0, math.log(2)),
        (-math.inf, -3.0, -3.0),
        (-math.inf, -math.inf, -math.inf),
        (-1000.0, -1000.0, -1000 + math.log(2)),
        (0.0, -800.0, 0.0),
    ],
)
def test_log_add(a: float, b: float, result: float) -> None:
    assert log_add(a, b) == log_add(b, a) == pytest.approx(result)
