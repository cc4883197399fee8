"""Decoding from a cache is the function that decoding without one is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.inference import (
    NextLogits,
    SamplingConfig,
    decode_one,
    generate_ids,
    predict,
    prefill,
    window_start,
)
from stemma.models import Transformer, TransformerConfig

GREEDY = SamplingConfig(temperature=0)


class Sums:
    """The cache of `RunningSum`: one sum per position."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []

    @property
    def length(self) -> int:
        return len(self.sums)

    def truncate(self, length: int) -> None:
        del self.sums[length:]


class RunningSum(nn.Module):
    """The least model with a cache: the sum of all embeddings so far, times the position's own."""

    vocab_size, context_length = 20, 6

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.tokens = torch.randn(20, 8, generator=source)
        self.positions = torch.randn(6, 8, generator=source)
        self.output = torch.randn(8, 20, generator=source)
        self.fed: list[int] = []

    def new_cache(self, batch_size: int, *, capacity: int | None = None) -> Sums:
        return Sums()

    def hidden_states(self, ids: Tensor, *, cache: Sums | None = None) -> Tensor:
        self.fed.append(ids.shape[1])
        cache = Sums() if cache is None else cache
        first = cache.length
        for position in range(ids.shape[1]):
            before = cache.sums[-1] if cache.sums else torch.zeros(ids.shape[0], 8)
            cache.sums.append(before + self.tokens[ids[:, position]])
        return torch.stack(cache.sums[first:], dim=1) * self.positions[first : cache.length]

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.output

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return self.head(self.hidden_states(ids)).log_softmax(-1)


def test_prefill_and_decode_one_stack() -> None:
    model, ids = RunningSum(), torch.tensor([[3, 1, 4], [1, 5, 9]])
    cache = model.new_cache(2)
    torch.testing.assert_close(prefill(model, ids[:, :2], cache), predict(model, ids[:, :2]))
    torch.testing.assert_close(decode_one(model, ids[:, 2:], cache), predict(model, ids))
    assert cache.length == 3


@pytest.mark.parametrize("n_prompt", [1, 4, 6, 7, 15])
def test_across_the_context_s_edge(n_prompt: int) -> None:
    model = RunningSum()
    prompt = torch.randint(0, 20, (n_prompt,), generator=torch.Generator().manual_seed(1))
    kept: list[list[Tensor]] = [[], []]
    texts = [
        list(
            generate_ids(
                model,
                prompt,
                max_new_tokens=20,
                sampling=SamplingConfig(seed=3),
                overflow="slide",
                cached=cached,
                on_token=lambda _, logits, cached=cached: kept[cached].append(logits),
            )
        )
        for cached in (False, True)
    ]
    assert texts[0] == texts[1]
    torch.testing.assert_close(torch.stack(kept[0]), torch.stack(kept[1]), rtol=0, atol=1e-5)


def test_with_a_cache_each_id_is_fed_once_until_the_window_moves() -> None:
    model = RunningSum()
    list(generate_ids(model, [1, 2], max_new_tokens=10, sampling=GREEDY, overflow="slide"))
    # Lengths 2..11 of a context of 6: the window moves at 7 and at 10, and 4 ids remain.
    assert model.fed == [2, 1, 1, 1, 1, 4, 1, 1, 4, 1]


def test_without_a_cache_the_whole_window_is_fed() -> None:
    model = RunningSum()
    list(
        generate_ids(
            model, [1, 2], max_new_tokens=10, sampling=GREEDY, overflow="slide", cached=False
        )
    )
    assert model.fed == [length - window_start(length, 6) for length in range(2, 12)]


def test_a_text_may_grow_by_several_ids_between_calls() -> None:
    model = RunningSum()
    next_logits = NextLogits(model)
    text = torch.randint(0, 20, (1, 12), generator=torch.Generator().manual_seed(2))
    for length in (1, 4, 5, 9, 12):
        window = text[:, window_start(length, 6) : length]
        torch.testing.assert_close(next_logits(text[:, :length]), predict(model, window))


POSITIONS = ["learned", "rotary", "none"]


def transformer(position: str, context_length: int = 16) -> Transformer:
    config = TransformerConfig.parse(
        {
            "vocab_size": 50,
            "context_length": context_length,
            "d_model": 32,
            "n_layers": 2,
            "attention": {"n_heads": 4, "n_kv_heads": 2},
            "position": {"kind": position},
            "dropout": 0.1,
        }
    )
    model = Transformer(config, seed=1)
    # Fresh weights predict almost nothing; larger ones make the logits differ by several nats.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(seed=5, temperature=1.5)])
@pytest.mark.parametrize("n_prompt", [1, 10, 16, 17, 40])
def test_a_transformer_with_and_without_a_cache_agrees_across_the_edge(
    position: str, sampling: SamplingConfig, n_prompt: int
) -> None:
    model = transformer(position)
    prompt = torch.randint(0, 50, (n_prompt,), generator=torch.Generator().manual_seed(1))

    def decode(cached: bool) -> tuple[list[int], Tensor]:
        logits: list[Tensor] = []
        ids = generate_ids(
            model,
            prompt,
            max_new_tokens=40,
            sampling=sampling,
            overflow="slide",
            cached=cached,
            on_token=lambda _, row: logits.append(row),
        )
        return list(ids), torch.stack(logits)

    (ids, logits), (ids_cached, logits_cached) = decode(False), decode(True)
    assert ids == ids_cached
    torch.testing.assert_close(logits, logits_cached, rtol=0, atol=1e-5)
    assert logits.std(dim=-1).min() > 0.1
    # The readable twin: one forward pass over each window.
    model.eval()
    text = torch.tensor([[*prompt.tolist(), *ids]])
    for step, row in enumerate(logits):
        length = n_prompt + step
        expected = model(text[:, window_start(length, 16) : length])[0, -1]
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_cache_that_is_cut_back_goes_on_as_if_never_ahead(position: str) -> None:
    model = transformer(position).eval()
    ids = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(2))
    cache = model.new_cache(2)
    prefill(model, ids, cache)
    cache.truncate(7)
    torch.testing.assert_close(
        prefill(model, ids[:, 7:], cache), predict(model, ids), rtol=0, atol=1e-5
    )


def test_a_wrong_position_would_be_seen() -> None:
    """The tolerance of these tests is far below what one position's difference makes."""
    model = transformer("learned").eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    cache = model.new_cache(1)
    prefill(model, ids[:, :3], cache)
    skipped = decode_one(model, ids[:, 4:], cache)
    assert (skipped - predict(model, ids)).abs().max() > 1e-2


def test_the_cache_is_no_longer_than_the_text_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer("rotary", context_length=1000)
    capacities: list[int] = []
    new_cache = model.new_cache

    def spy(batch_size: int, *, capacity: int | None = None) -> object:
        cache = new_cache(batch_size, capacity=capacity)
        capacities.append(cache.capacity)
        return cache

    monkeypatch.setattr(model, "new_cache", spy)
    assert len(list(generate_ids(model, [1, 2, 3], max_new_tokens=7))) == 7
    list(generate_ids(model, [1] * 998, max_new_tokens=7))
    assert capacities == [10, 1000]


def test_half_precision_weights_decode() -> None:
    model = transformer("rotary").bfloat16()
    ids = list(generate_ids(model, [1, 2], max_new_tokens=20, overflow="slide"))
    assert len(ids) == 20


def test_broken_weights_are_reported() -> None:
    model = transformer("learned")
    with torch.no_grad():
        model.head.weight[7, 3] = torch.nan
    with pytest.raises(ModelError, match="the model's logits hold nan"):
        next(generate_ids(model, [1], max_new_tokens=1))
    assert model.training


def test_a_cache_of_unknown_length_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.inference.decode._FIRST_CAPACITY", 3)
    model = transformer("rotary", context_length=40).eval()
    next_logits = NextLogits(model)
    text = torch.randint(0, 50, (1, 40), generator=torch.Generator().manual_seed(2))
    capacities = []
    for length in range(1, 41):
        logits = next_logits(text[:, :length])
        capacities.append(next_logits._cache.capacity)
        expected = predict(model, text[:, :length])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert sorted(set(capacities)) == [3, 6, 12, 24, 40]
