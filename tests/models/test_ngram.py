"""The n-gram against a table worked by hand, a dictionary implementation, and its own axioms."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models.ngram import NGram, count_ngrams, modified_discounts
from stemma.models.ngram.counting import sort_by_key

Gram = tuple[int, ...]


class DictionaryKneserNey:
    """Chen & Goodman's equations word for word: slow, and sharing no code with the real one."""

    def __init__(
        self, documents: Sequence[Sequence[int]], order: int, vocab_size: int, start: int | None
    ) -> None:
        self.order, self.vocab_size = order, vocab_size
        self.start = start
        lead = [] if start is None else [start]
        occurrences: Counter[Gram] = Counter()
        left: dict[Gram, set[Gram]] = defaultdict(set)
        for d, document in enumerate(documents):
            row = [*lead, *document]
            for end in range(len(lead), len(row)):
                for k in range(1, order + 2):
                    first = end - k + 1
                    if first < 0:
                        break
                    gram = tuple(row[first : end + 1])
                    occurrences[gram] += 1
                    # At the edge the neighbour is the edge itself, another one each time.
                    neighbour = (row[first - 1],) if first > 0 else (-1, d, end)
                    left[gram].add(neighbour)
        self.tables: dict[tuple[int, bool], dict[Gram, dict[int, int]]] = {}
        self.discounts: dict[tuple[int, bool], list[float]] = {}
        for k in range(1, order + 1):
            for highest in (False, True):
                counts = {
                    g: occurrences[g] if highest else len(left[g])
                    for g in occurrences
                    if len(g) == k
                }
                table: dict[Gram, dict[int, int]] = defaultdict(dict)
                for gram, count in counts.items():
                    table[gram[:-1]][gram[-1]] = count
                self.tables[k, highest] = table
                self.discounts[k, highest] = self.discounts_of(list(counts.values()))

    @staticmethod
    def discounts_of(counts: list[int]) -> list[float]:
        n = [0] + [counts.count(j) for j in (1, 2, 3, 4)]
        if not n[1] * n[2]:
            return [0.0, 0.5, 0.5, 0.5]
        y = n[1] / (n[1] + 2 * n[2])
        result = [0.0]
        for j in (1, 2, 3):
            d = j - (j + 1) * y * n[j + 1] / n[j] if n[j] * n[j + 1] else result[-1]
            result.append(max(min(d, float(j)), result[-1]))
        return result

    def prob(self, history: Gram, token: int, k: int | None = None) -> float:
        k = self.order if k is None else k
        if k == 0:
            return 1 / self.vocab_size
        if len(history) < k - 1:
            return self.lower(history, token, k)
        context = history[len(history) - (k - 1) :]
        highest = k == self.order
        followers = self.tables[k, highest].get(context)
        if not followers:
            return self.lower(history, token, k)
        d = self.discounts[k, highest]
        total = sum(followers.values())
        taken = sum(d[min(c, 3)] for c in followers.values())
        count = followers.get(token, 0)
        return (count - d[min(count, 3)]) / total + taken / total * self.lower(history, token, k)

    def lower(self, history: Gram, token: int, k: int) -> float:
        return self.prob(history, token, k - 1)


def batch(ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(ids)], dtype=torch.long)


def close_documents(documents: list[list[int]], end: int) -> list[int]:
    return [token for document in documents for token in [*document, end]]


def test_discounts_worked_by_hand() -> None:
    # Y = 10 / (10 + 2 * 5) = 1/2; D1 = 1 - 2/2 * 5/10; D2 = 2 - 3/2 * 2/5; D3 = 3 - 4/2 * 1/2.
    np.testing.assert_allclose(modified_discounts([10, 5, 2, 1]), [0, 0.5, 1.4, 2.0])


@pytest.mark.parametrize(
    ("counts_of_counts", "expected"),
    [
        ([0, 5, 2, 1], [0, 0.5, 0.5, 0.5]),
        ([5, 0, 2, 1], [0, 0.5, 0.5, 0.5]),
        ([10, 5, 0, 1], [0, 0.5, 0.5, 0.5]),
        ([10, 5, 2, 0], [0, 0.5, 1.4, 1.4]),
        ([10, 5, 5, 1], [0, 0.5, 0.5, 2.6]),  # D2 = 2 - 3/2 would be right at D1
        ([10, 5, 9, 1], [0, 0.5, 0.5, 3 - 2 / 9]),  # D2 = 2 - 2.7 < 0
    ],
)
def test_discounts_are_held_where_the_formula_fails(
    counts_of_counts: list[int], expected: list[float]
) -> None:
    np.testing.assert_allclose(modified_discounts(counts_of_counts), expected)


def test_bigram_worked_by_hand() -> None:
    # x x y x x z; x=0 y=1 z=2. Bigrams: xx 2, xy 1, yx 1, xz 1: n1=3, n2=1, n3=n4=0.
    # Y = 3/5, D1 = 1 - 2(3/5)(1/3) = 3/5, and without n3 and n4 D2 = D3 = 3/5.
    # Continuations: x after the edge, x and y: 3; y after x: 1; z after x: 1. No n2: all D = 1/2.
    # p(x) = (3 - 1/2)/5 + (3/10)(1/3) = 3/5; p(y) = p(z) = (1/2)/5 + 1/10 = 1/5.
    # c(x .) = 4, lambda(x) = 3(3/5)/4 = 9/20.
    # p(x|x) = (2 - 3/5)/4 + (9/20)(3/5) = 62/100; p(y|x) = p(z|x) = (2/5)/4 + (9/20)/5 = 19/100.
    # c(y .) = 1, lambda(y) = 3/5: p(x|y) = 2/5 + (3/5)(3/5) = 19/25; p(y|y) = p(z|y) = 3/25.
    # Nothing follows z, so unigrams decide.
    model = NGram.fit([0, 0, 1, 0, 0, 2], 2, vocab_size=3)
    probs = model.next_log_probs(batch([0, 1, 2])).exp()[0].numpy()
    expected = [[0.62, 0.19, 0.19], [0.76, 0.12, 0.12], [0.6, 0.2, 0.2]]
    np.testing.assert_allclose(probs, expected, rtol=1e-6)


corpora = st.integers(2, 5).flatmap(
    lambda v: st.tuples(st.just(v), st.lists(st.integers(0, v - 1), min_size=1, max_size=60))
)


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 5), st.lists(st.integers(0, 1), min_size=1, max_size=12))
def test_equals_the_dictionary_implementation(
    corpus: tuple[int, list[int]], order: int, text: list[int]
) -> None:
    vocab_size, tokens = corpus
    model = NGram.fit(tokens, order, vocab_size=vocab_size)
    oracle = DictionaryKneserNey([tokens], order, vocab_size, start=None)
    row = [*tokens[:20], *text]
    found = model.token_log_probs(batch(row)).exp()[0].numpy()
    expected = [oracle.prob(tuple(row[:t]), row[t]) for t in range(1, len(row))]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=15), min_size=1, max_size=6),
    st.integers(1, 5),
    st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=3),
)
def test_documents_equal_the_dictionary_implementation(
    documents: list[list[int]], order: int, texts: list[list[int]]
) -> None:
    end = 3
    model = NGram.fit(close_documents(documents, end), order, vocab_size=4, end_of_text=end)
    oracle = DictionaryKneserNey([[*d, end] for d in documents], order, 4, start=end)
    row = [end, *close_documents(texts, end)]
    expected = [
        oracle.prob((end, *text[:t]), [*text, end][t])
        for text in texts
        for t in range(len(text) + 1)
    ]
    found = model.token_log_probs(batch(row)).exp()[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(0, 6), st.booleans(), st.data())
def test_every_distribution_sums_to_one(
    corpus: tuple[int, list[int]], order: int, closed: bool, data: st.DataObject
) -> None:
    vocab_size, tokens = corpus
    end = vocab_size - 1 if closed else None
    model = NGram.fit(tokens, order, vocab_size=vocab_size, end_of_text=end)
    row = data.draw(st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=20))
    log_probs = model.next_log_probs(batch([*row, *tokens[:30]]))
    assert torch.isfinite(log_probs).all()
    np.testing.assert_allclose(log_probs.double().exp().sum(-1), 1.0, atol=1e-6)
    scored = model.token_log_probs(batch(row))
    gathered = model.next_log_probs(batch(row))[:, :-1].gather(-1, batch(row)[:, 1:, None])
    np.testing.assert_allclose(scored, gathered[..., 0], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 5), st.booleans())
def test_counts_equal_a_counter(corpus: tuple[int, list[int]], order: int, closed: bool) -> None:
    vocab_size, tokens = corpus
    end = 0 if closed else None
    counts = count_ngrams(tokens, order, vocab_size=vocab_size, end_of_text=end)
    row = [0, *tokens] if closed else tokens
    for k, level in enumerate(counts.levels, start=1):
        grams = Counter(
            tuple(row[i : i + k])
            for i in range(1 if closed and k == 1 else 0, len(row) - k + 1)
            if not closed or 0 not in row[i + 1 : i + k - 1]
        )
        assert level.n_grams == len(grams)
        assert sorted(level.occurrences[level.occurrences > 1].tolist()) == sorted(
            c for c in grams.values() if c > 1
        )


@settings(max_examples=30, deadline=None)
@given(corpora, st.integers(1, 5))
def test_all_orders_in_one_pass_equal_each_fitted_alone(
    corpus: tuple[int, list[int]], order: int
) -> None:
    vocab_size, tokens = corpus
    model = NGram.fit(tokens, order, vocab_size=vocab_size)
    ids = batch([0, *tokens[::-1], *tokens])
    together = model.token_log_probs_by_order(ids)
    assert together.shape == (order + 1, 1, ids.shape[1] - 1)
    for k in range(order + 1):
        alone = NGram.fit(tokens, k, vocab_size=vocab_size)
        np.testing.assert_allclose(together[k], alone.token_log_probs(ids), rtol=1e-12)
        np.testing.assert_allclose(together[k], model.at_order(k).token_log_probs(ids), rtol=1e-12)


def test_rows_of_a_batch_are_texts_of_their_own() -> None:
    rng = np.random.default_rng(0)
    model = NGram.fit(rng.integers(0, 4, 500), 4, vocab_size=4)
    ids = torch.from_numpy(rng.integers(0, 4, (3, 30)))
    for method in (model.token_log_probs, model.next_log_probs):
        together = method(ids)
        for row in range(3):
            torch.testing.assert_close(together[row : row + 1], method(ids[row : row + 1]))


def test_history_ends_at_end_of_text() -> None:
    rng = np.random.default_rng(1)
    tokens = np.concatenate([np.append(rng.integers(0, 4, 50), 4) for _ in range(20)])
    model = NGram.fit(tokens, 5, vocab_size=5, end_of_text=4)
    reaching = NGram.fit(tokens, 5, vocab_size=5)
    one, other = batch([0, 1, 2, 4, 3, 1]), batch([3, 3, 0, 4, 3, 1])
    assert torch.equal(model.next_log_probs(one)[:, 3:], model.next_log_probs(other)[:, 3:])
    assert not torch.equal(
        reaching.next_log_probs(one)[:, 3:], reaching.next_log_probs(other)[:, 3:]
    )


def test_order_one_and_zero() -> None:
    model = NGram.fit([0, 0, 0, 1], 1, vocab_size=4)
    assert model.at_order(0).next_log_probs(batch([2]))[0, 0].tolist() == pytest.approx(
        [-math.log(4)] * 4
    )
    first, last = model.next_log_probs(batch([0, 1]))[0]
    assert torch.equal(first, last)
    assert first[0] > first[1] > first[2]
    assert first[2] == first[3]


def test_large_vocabulary_and_long_orders() -> None:
    vocab_size = 50_257
    tokens = [50_256, 3, 50_256, 3, 40_000, 50_256, 3]
    model = NGram.fit(tokens, 12, vocab_size=vocab_size)
    oracle = DictionaryKneserNey([tokens], 12, vocab_size, start=None)
    found = model.token_log_probs(batch(tokens)).exp()[0].numpy()
    expected = [oracle.prob(tuple(tokens[:t]), tokens[t]) for t in range(1, len(tokens))]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert model.next_log_probs(batch(tokens)).exp().sum(-1).sub(1).abs().max() < 1e-5


def test_sorting_agrees_whether_or_not_the_pair_fits_into_one_integer() -> None:
    rng = np.random.default_rng(2)
    keys, values = rng.integers(0, 9, 200), rng.permutation(200).astype(np.int32)
    small = sort_by_key(keys, values)
    large = sort_by_key(keys * 2**58, values)
    np.testing.assert_array_equal(small[0] * 2**58, large[0])
    np.testing.assert_array_equal(small[1], large[1])
    assert (np.diff(small[0]) >= 0).all()


@pytest.mark.parametrize(
    ("tokens", "order", "message"),
    [
        ([], 2, "at least one token"),
        ([[0, 1]], 2, "one row"),
        ([0, 7], 2, "token id 7 is outside the vocabulary of 4"),
        ([0, -1], 2, "token id -1"),
        ([0.5], 2, "integers"),
        ([0, 1], -1, "not within"),
    ],
)
def test_bad_input(tokens: list[int], order: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        NGram.fit(tokens, order, vocab_size=4)


def test_bad_ids_and_orders_when_used() -> None:
    model = NGram.fit([0, 1, 2], 2, vocab_size=4)
    with pytest.raises(ModelError, match="outside the vocabulary"):
        model.next_log_probs(batch([4]))
    with pytest.raises(ModelError, match="shape"):
        model.next_log_probs(torch.tensor([1, 2]))
    with pytest.raises(ModelError, match="Fit with order=3"):
        model.at_order(3)


def test_bits_per_byte_of_tinyshakespeare(mirror: Callable[[str], Path]) -> None:
    data = np.frombuffer(mirror("text/tinyshakespeare.txt").read_bytes(), dtype=np.uint8)
    cut = int(len(data) * 0.9)
    model = NGram.fit(data[:cut], 9, vocab_size=256)
    held_out = torch.from_numpy(data[cut - 1 :].astype(np.int64))[None]
    bits = -model.token_log_probs_by_order(held_out).mean(dim=(1, 2)) / math.log(2)
    expected = [8.0, 4.829, 3.584, 2.941, 2.481, 2.253, 2.198, 2.189, 2.193, 2.197]
    np.testing.assert_allclose(bits, expected, atol=1.2e-3)
