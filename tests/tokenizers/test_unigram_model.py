from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.unigram.model import LARGEST_SUM, Edge, UnigramModel

PIECES = [None, "a", "b", "ab", "ba", "aba", "é", "bé"]
SCORES = [0.0, -1.0, -2.0, -2.5, -3.5, -4.0, -5.0, -6.5]

MODELS = st.dictionaries(
    st.text("abé", min_size=1, max_size=4), st.floats(-20, 0, width=32), min_size=1, max_size=12
)
TEXTS = st.text("abéx", max_size=8) | st.sampled_from(["abaébxabébaa", "aaaaaaaaaaaa"])


def model_of(pieces: dict[str, float], **options: object) -> UnigramModel:
    return UnigramModel([None, *pieces], [0.0, *pieces.values()], 0, **options)  # type: ignore[arg-type]


def segmentations(model: UnigramModel, pieces: dict[str, float], text: str) -> Iterator[list[Edge]]:
    """Every way to cut ``text``, by trying all cuts."""
    if not text:
        yield []
        return
    ids = {piece: i + 1 for i, piece in enumerate(pieces)}
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(text)]
        path = []
        for start, end in itertools.pairwise(places):
            part = text[start:end]
            if part in pieces:
                path.append(Edge(start, end, ids[part], pieces[part]))
            elif len(part) == 1:
                path.append(Edge(start, end, 0, model.unknown_score))
            else:
                break
        else:
            yield path


def total(path: list[Edge]) -> float:
    return sum(edge.score for edge in path)


def test_a_hand_worked_lattice() -> None:
    model = UnigramModel(PIECES, SCORES, 0)
    # aba: a b a = -4, ab a = -3.5, a ba = -4.5, aba = -4
    assert model.viterbi("aba") == [3, 1]
    assert model.n_best("aba", 9) == [
        ([Edge(0, 2, 3, -2.5), Edge(2, 3, 1, -1.0)], -3.5),
        ([Edge(0, 3, 5, -4.0)], -4.0),
        ([Edge(0, 1, 1, -1.0), Edge(1, 2, 2, -2.0), Edge(2, 3, 1, -1.0)], -4.0),
        ([Edge(0, 1, 1, -1.0), Edge(1, 3, 4, -3.5)], -4.5),
    ]
    z = math.log(2 * math.exp(-4) + math.exp(-3.5) + math.exp(-4.5))
    assert model.log_z("aba") == pytest.approx(z)
    probabilities = {(e.start, e.end): p for e, p in model.marginals("aba")}
    assert probabilities[0, 2] == pytest.approx(math.exp(-3.5 - z))
    assert probabilities[0, 1] == pytest.approx(math.exp(-4 - z) + math.exp(-4.5 - z))
    assert model.log_z("aba", alpha=0) == pytest.approx(math.log(4))


def test_an_unknown_character_costs_ten_more_than_the_least_likely_piece() -> None:
    model = UnigramModel(PIECES, SCORES, 0)
    assert model.best_path("aéxx") == [
        Edge(0, 1, 1, -1.0),
        Edge(1, 2, 6, -5.0),
        Edge(2, 3, 0, -16.5),
        Edge(3, 4, 0, -16.5),
    ]
    assert UnigramModel(PIECES, SCORES, 0, unknown_score=-1).best_path("x")[0].score == -1


def test_of_equal_segmentations_the_one_with_the_longest_last_piece_wins() -> None:
    model = model_of({"a": -1.0, "b": -1.0, "ab": -2.0, "abb": -3.0})
    assert model.viterbi("ab") == [3]
    assert model.viterbi("abb") == [4]
    assert model.viterbi("aab") == [1, 3]


@given(MODELS, TEXTS)
def test_nothing_is_better_than_the_best_path(pieces: dict[str, float], text: str) -> None:
    model = model_of(pieces, precision="double")
    every = list(segmentations(model, pieces, text))
    best = model.best_path(text)
    assert best in every
    assert total(best) == pytest.approx(max(map(total, every)), abs=1e-9)
    assert model.viterbi(text) == [edge.id for edge in best]


@given(MODELS, TEXTS, st.integers(1, 12))
def test_n_best_are_the_best_of_all(pieces: dict[str, float], text: str, n: int) -> None:
    model = model_of(pieces, precision="double")
    every = list(segmentations(model, pieces, text))
    found = model.n_best(text, n)
    assert len(found) == min(n, len(every))
    assert len({tuple(path) for path, _ in found}) == len(found)
    scores = sorted(map(total, every), reverse=True)[:n]
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-9)
    assert [total(path) for path, _ in found] == pytest.approx(scores, abs=1e-9)


@given(MODELS, TEXTS, st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_sums_over_all_segmentations(pieces: dict[str, float], text: str, alpha: float) -> None:
    model = model_of(pieces)
    every = list(segmentations(model, pieces, text))
    weights = np.array([math.exp(alpha * total(path)) for path in every])
    assert model.log_z(text, alpha=alpha) == pytest.approx(math.log(weights.sum()), abs=1e-6)
    expected: Counter[tuple[int, int]] = Counter()
    for path, weight in zip(every, weights, strict=True):
        for edge in path:
            expected[edge.start, edge.end] += weight / weights.sum()
    found = {(e.start, e.end): p for e, p in model.marginals(text, alpha=alpha)}
    assert found == pytest.approx({key: expected[key] for key in found}, abs=1e-6)
    # Each character lies in one piece of every segmentation; and backward sums to forward.
    for i in range(len(text)):
        assert sum(p for (s, e), p in found.items() if s <= i < e) == pytest.approx(1)
    if text:
        assert sum(p for (s, _), p in found.items() if s == 0) == pytest.approx(1)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
def test_samples_follow_the_posterior(alpha: float) -> None:
    pieces = dict(zip([p for p in PIECES if p], SCORES[1:], strict=True))
    model = model_of(pieces)
    text = "abaxbab"
    every = {tuple(p): math.exp(alpha * total(p)) for p in segmentations(model, pieces, text)}
    z = sum(every.values())
    generator = np.random.default_rng(1)
    n = 4000
    counts = Counter(tuple(model.sample(text, generator, alpha=alpha)) for _ in range(n))
    assert counts.keys() <= every.keys()
    expected = {path: n * weight / z for path, weight in every.items()}
    common = [path for path in expected if expected[path] >= 5]
    rest = n - sum(expected[path] for path in common)
    chi_square = sum((counts[p] - expected[p]) ** 2 / expected[p] for p in common)
    if rest > 5:
        seen = n - sum(counts[path] for path in common)
        chi_square += (seen - rest) ** 2 / rest
    # Mean k, standard deviation sqrt(2 k): five of them above the mean do not happen.
    assert chi_square < len(common) + 5 * math.sqrt(2 * len(common))
    assert len(common) > 5


def test_a_large_sum_is_made_small_again() -> None:
    """Before a choice between -3 and -2.998, which differ by less than sums near -100,000 can."""
    pieces = {"f": -10.0, "a": -1.0, "b": -1.998, "ab": -3.0}
    assert LARGEST_SUM == 100_000
    for n, found in [(0, [2, 3]), (9_990, [4]), (10_001, [2, 3]), (20_002, [2, 3])]:
        assert model_of(pieces).viterbi("f" * n + "ab")[n:] == found
        assert model_of(pieces, precision="double").viterbi("f" * n + "ab")[n:] == [2, 3]


def test_n_best_of_a_long_text_that_repeats_itself_ends() -> None:
    model = UnigramModel(PIECES, SCORES, 0)
    found = model.n_best("ab" * 100, 512)
    assert len(found) == 512
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


def test_the_lattice_visits_what_the_text_holds() -> None:
    """A piece of 7,000 characters costs nothing as long as its beginning does not occur."""
    generator = random.Random(1)
    pieces = {"a" * i: -float(i) for i in (1, 50, 7000)}
    text = "".join(generator.choice("ab") for _ in range(3000))
    assert len(model_of(pieces).viterbi(text)) == 3000


@pytest.mark.parametrize(
    ("pieces", "scores", "complaint"),
    [
        (["a", "a"], [0.0, 0.0], "both 'a'"),
        (["a", ""], [0.0, 0.0], "piece 1 is empty"),
        (["a"], [0.0, 0.0], "1 pieces have 2 scores"),
        (["a"], [math.nan], "no number"),
    ],
)
def test_what_is_no_model(pieces: list[str], scores: list[float], complaint: str) -> None:
    with pytest.raises(TokenizerError, match=complaint):
        UnigramModel(pieces, scores, 0)


def test_n_best_of_none() -> None:
    with pytest.raises(TokenizerError, match="n_best of 0"):
        UnigramModel(PIECES, SCORES, 0).n_best("a", 0)
