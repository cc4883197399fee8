"""Evaluation against a loop over tokens, models worked by hand, and the n-gram's own score."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma.errors import DataError, ModelError
from stemma.evaluation import evaluate, evaluate_orders, token_losses
from stemma.evaluation.windows import plan_windows
from stemma.models.ngram import NGram

VOCAB = 7


class Uniform:
    vocab_size = 8
    context_length = 4

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return torch.full((*ids.shape, self.vocab_size), -math.log(self.vocab_size))


class Sums:
    """Predicts from a weighted sum of all tokens it is given, so every token of context matters."""

    vocab_size = VOCAB

    def __init__(self, context_length: int | None) -> None:
        self.context_length = context_length
        self.seen: list[tuple[int, ...]] = []

    def next_log_probs(self, ids: Tensor) -> Tensor:
        self.seen.append(tuple(ids.shape))
        weight = torch.arange(1, ids.shape[1] + 1, dtype=torch.float64)
        level = torch.cumsum((ids + 1) * weight, dim=1)
        logits = torch.sin(level[..., None] * torch.arange(1, VOCAB + 1))
        return logits.log_softmax(-1)


class Recurrent(nn.Module):
    """A causal network with a head that can be applied to some positions only."""

    vocab_size = VOCAB
    context_length = 6

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = nn.Parameter(torch.randn(VOCAB, 5, generator=generator))
        self.weight = nn.Parameter(torch.randn(5, VOCAB, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.head_rows = 0

    def hidden_states(self, ids: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.embed[ids].cumsum(1)))

    def head(self, hidden: Tensor) -> Tensor:
        self.head_rows += hidden[..., 0].numel()
        return hidden @ self.weight

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return (self.hidden_states(ids) @ self.weight).float().log_softmax(-1)


class WithoutHead:
    """The same network seen through the bare protocol."""

    vocab_size = VOCAB
    context_length = 6

    def __init__(self, network: Recurrent) -> None:
        self.network = network

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return self.network.next_log_probs(ids)


def by_loop(
    model: Any, tokens: list[int], start_token: int | None, length: int, stride: int
) -> list[float]:
    """The definition: each token in the first window that holds it, one call for each."""
    row = tokens if start_token is None else [start_token, *tokens]
    n_targets = len(row) - 1
    length = min(length, n_targets)
    losses = [] if start_token is not None else [math.log(model.vocab_size)]
    for target in range(1, len(row)):
        begin = 0
        while begin + length < target:
            begin = min(begin + stride, n_targets - length)
        given = torch.tensor([row[begin:target]])
        losses.append(-float(model.next_log_probs(given)[0, -1, row[target]]))
    return losses


def test_uniform_costs_log2_of_the_vocabulary() -> None:
    result = evaluate(Uniform(), np.arange(8).repeat(3), n_bytes=12)
    assert result.bits_per_token == pytest.approx(3.0)
    assert result.perplexity == pytest.approx(8.0)
    assert result.loss == pytest.approx(math.log(8))
    assert result.bits_per_byte == pytest.approx(3.0 * 24 / 12)
    assert (result.n_tokens, result.n_bytes) == (24, 12)
    assert (result.context_length, result.stride) == (4, 2)
    assert result.standard_error is None


def test_standard_error_is_that_of_block_means() -> None:
    class Knows:
        """Sure of every token but id 1, to which it gives 1/4."""

        vocab_size, context_length = 2, 64

        def next_log_probs(self, ids: Tensor) -> Tensor:
            return torch.tensor([0.0, -math.log(4)]).expand(*ids.shape, 2)

    tokens = np.zeros(512 * 8, dtype=np.uint8)
    tokens[: 512 * 4] = 1  # four blocks cost ln 4 a token, four cost nothing
    result = evaluate(Knows(), tokens, n_bytes=len(tokens), start_token=0)
    assert result.loss == pytest.approx(math.log(4) / 2)
    deviation = math.log(4) / 2 * math.sqrt(8 / 7)
    assert result.standard_error == pytest.approx(deviation / math.sqrt(8))
    assert result.bits_per_byte_error == pytest.approx(2 / 2 * math.sqrt(8 / 7) / math.sqrt(8))


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_every_target_is_scored_exactly_once(
    n_targets: int, length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, length))
    scored: list[int] = []
    length_used = min(length, n_targets)
    for start, number, n_scored in plan_windows(n_targets, length, stride):
        for i in range(number):
            end = start + i * stride + length_used
            assert end <= n_targets
            scored += range(end - n_scored, end)
    assert scored == list(range(n_targets))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40),
    st.one_of(st.none(), st.integers(0, VOCAB - 1)),
    st.integers(1, 12),
    st.integers(1, 5),
    st.data(),
)
def test_equals_a_loop_over_tokens(
    tokens: list[int], start: int | None, length: int, batch_size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, length))
    model = Sums(context_length=12)
    found = token_losses(
        model,
        np.array(tokens),
        start_token=start,
        context_length=length,
        stride=stride,
        batch_size=batch_size,
    )
    np.testing.assert_allclose(found, by_loop(model, tokens, start, length, stride), rtol=1e-9)


@pytest.mark.parametrize("stride", [1, 3, 6])
def test_the_head_alone_gives_the_same(stride: int) -> None:
    network = Recurrent().eval()
    tokens = torch.randint(VOCAB, (50,), generator=torch.Generator().manual_seed(1))
    fast = token_losses(network, tokens, start_token=0, stride=stride)
    plain = token_losses(WithoutHead(network), tokens, start_token=0, stride=stride)
    np.testing.assert_allclose(fast, plain, rtol=1e-5)
    assert network.head_rows == len(tokens)


def test_modes_of_a_network_are_put_back_and_dropout_is_off() -> None:
    network = Recurrent().train()
    network.dropout.eval()
    tokens = torch.arange(40) % VOCAB
    evaluate(network, tokens, n_bytes=40)
    assert network.training
    assert not network.dropout.training
    network.dropout.train()
    first = evaluate(network, tokens, n_bytes=40)
    assert first == evaluate(network, tokens, n_bytes=40)
    assert network.dropout.training


def test_precision_is_a_dtype_or_a_context() -> None:
    network, tokens = Recurrent(), torch.arange(40) % VOCAB
    exact = evaluate(network, tokens, n_bytes=40).loss
    entered = []

    @contextlib.contextmanager
    def half() -> Iterator[None]:
        entered.append(True)
        with torch.autocast("cpu", torch.bfloat16):
            yield

    narrow = evaluate(network, tokens, n_bytes=40, precision=torch.bfloat16).loss
    assert narrow == evaluate(network, tokens, n_bytes=40, precision=half).loss
    assert entered
    assert narrow != exact
    assert narrow == pytest.approx(exact, rel=0.02)
    assert evaluate(network, tokens, n_bytes=40, precision=torch.float32).loss == exact


@pytest.mark.parametrize("start", [None, 4])
def test_an_ngram_is_given_the_whole_text(start: int | None) -> None:
    rng = np.random.default_rng(0)
    model = NGram.fit(rng.integers(0, 5, 2000) // 2, 4, vocab_size=5)
    tokens = rng.integers(0, 3, 300)
    result = evaluate(model, tokens, n_bytes=300, start_token=start)
    row = tokens if start is None else np.append(start, tokens)
    direct = -model.token_log_probs(torch.from_numpy(row)[None]).sum().item()
    direct += math.log(5) if start is None else 0.0
    assert result.loss * 300 == pytest.approx(direct, rel=1e-12)
    assert (result.context_length, result.stride) == (None, None)
    overlapping = evaluate(
        model, tokens, n_bytes=300, start_token=start, context_length=10, stride=7
    )
    assert overlapping.loss == pytest.approx(result.loss, rel=1e-12)
    blind = evaluate(model, tokens, n_bytes=300, start_token=start, context_length=10, stride=10)
    assert blind.loss != pytest.approx(result.loss, rel=1e-6)


@pytest.mark.parametrize("start", [None, 4])
def test_all_orders_of_an_ngram_in_one_pass(start: int | None) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 4, 6000)
    model = NGram.fit(tokens[:1000], 5, vocab_size=5, end_of_text=start)
    results = evaluate_orders(model, tokens[1000:], n_bytes=2500, start_token=start)
    assert len(results) == 6
    assert results[0].bits_per_byte == pytest.approx(2 * math.log2(5))
    for order, result in enumerate(results):
        alone = evaluate(model.at_order(order), tokens[1000:], n_bytes=2500, start_token=start)
        assert result.loss == pytest.approx(alone.loss, rel=1e-12)
        assert result.standard_error == pytest.approx(alone.standard_error, rel=1e-9)


def test_a_model_without_limit_gets_windows() -> None:
    model = Sums(context_length=None)
    result = evaluate(model, np.zeros(3000, dtype=np.uint16), n_bytes=3000)
    assert (result.context_length, result.stride) == (1024, 512)
    assert {shape[1] for shape in model.seen} == {1024}


class Shards:
    """Tokens that can only be sliced, and know their bytes."""

    n_bytes = 77

    def __init__(self, tokens: np.ndarray) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, part: slice) -> np.ndarray:
        assert isinstance(part, slice)
        return self._tokens[part]


def test_tokens_come_from_anything() -> None:
    ids = np.arange(33) % VOCAB
    results = [
        evaluate(Sums(8), tokens, n_bytes=77, start_token=1)
        for tokens in (ids.astype(np.uint16), torch.from_numpy(ids), ids.tolist(), Shards(ids))
    ]
    assert len(set(results)) == 1
    assert evaluate(Sums(8), Shards(ids), start_token=1) == results[0]


def test_progress_counts_tokens() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(Uniform(), [0] * 21, n_bytes=1, batch_size=2, progress=lambda *done: seen.append(done))
    assert seen[-1] == (21, 21)
    assert seen == sorted(seen)
    assert len(seen) > 3


class Broken(Uniform):
    def next_log_probs(self, ids: Tensor) -> Tensor:
        return super().next_log_probs(ids).masked_fill((ids == 3)[..., None], math.nan)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate(Uniform(), [1, 2], n_bytes=2, stride=5), ModelError, "stride = 5"),
        (lambda: evaluate(Uniform(), [1, 2], n_bytes=2, stride=0), ModelError, "stride = 0"),
        (
            lambda: evaluate(Uniform(), [1, 2], n_bytes=2, context_length=5),
            ModelError,
            r"context_length = 5 is not within 1\.\.4",
        ),
        (lambda: evaluate(Uniform(), [1], n_bytes=2, batch_size=0), ModelError, "batch_size = 0"),
        (lambda: evaluate(Uniform(), [], n_bytes=2), DataError, "no token"),
        (lambda: evaluate(Uniform(), [[1, 2]], n_bytes=2), DataError, "one row"),
        (lambda: evaluate(Uniform(), [1, 9], n_bytes=2), DataError, "token id 9"),
        (lambda: evaluate(Uniform(), [1, 2]), DataError, "number of bytes"),
        (lambda: evaluate(Uniform(), [1, 2], n_bytes=-1), DataError, "n_bytes = -1"),
        (
            lambda: evaluate(Broken(), [1, 1, 1, 3, 1], n_bytes=5),
            ModelError,
            "the loss of token 4 is nan",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_one_token_without_a_start_costs_the_uniform_price() -> None:
    assert evaluate(Uniform(), [5], n_bytes=1).bits_per_byte == pytest.approx(3.0)
    assert evaluate(Uniform(), [5], n_bytes=1, start_token=0).bits_per_byte == pytest.approx(3.0)
