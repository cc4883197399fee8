from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma import inference
from stemma.errors import ModelError
from stemma.inference import (
    SamplingConfig,
    generate_ids,
    predict,
    window_start,
)
from stemma.models.ngram import NGram

GREEDY = SamplingConfig(temperature=0)


class Recorder:
    """Predicts ``(last id + number of ids seen) % 10``, and remembers what it was asked."""

    vocab_size = 10

    def __init__(self, context_length: int | None = None) -> None:
        self.context_length = context_length
        self.asked: list[list[int]] = []

    def next_log_probs(self, ids: Tensor) -> Tensor:
        self.asked.append(ids[0].tolist())
        predicted = (ids + torch.arange(1, ids.shape[1] + 1)) % 10
        return nn.functional.one_hot(predicted, 10).float().log()


def test_by_hand() -> None:
    # 3 is id one: 3 + 1 = 4; 4 + 2 = 6; 6 + 3 = 9; 9 + 4 = 13 -> 3.
    assert list(generate_ids(Recorder(), [3], max_new_tokens=4, sampling=GREEDY)) == [4, 6, 9, 3]


@pytest.mark.parametrize(
    "prompt", [[3, 4], (3, 4), np.array([3, 4], np.int32), torch.tensor([3, 4])]
)
def test_a_prompt_is_any_row_of_ids(prompt: object) -> None:
    assert list(generate_ids(Recorder(), prompt, max_new_tokens=1, sampling=GREEDY)) == [6]  # type: ignore[arg-type]


def test_a_stop_id_is_the_last_one() -> None:
    ids = generate_ids(Recorder(), [3], max_new_tokens=9, sampling=GREEDY, stop_ids=[9, 0])
    assert list(ids) == [4, 6, 9]


def test_the_window_drops_its_older_half_when_it_is_full() -> None:
    # Context 4: at length 5 two go, and two more at 7, 9, ...
    assert [window_start(length, 4) for length in range(1, 10)] == [0, 0, 0, 0, 2, 2, 4, 4, 6]
    assert [window_start(length, 5) for length in range(4, 11)] == [0, 0, 2, 2, 4, 4, 6]
    assert [window_start(length, 1) for length in range(1, 5)] == [0, 1, 2, 3]
    assert window_start(10**6, None) == 0


@given(st.integers(1, 3000), st.integers(1, 300))
def test_a_window_is_never_empty_nor_longer_than_the_context(length: int, context: int) -> None:
    start = window_start(length, context)
    assert 1 <= length - start <= context
    assert length <= context or length - start > context - max(context // 2, 1)
    assert 0 <= window_start(length + 1, context) - start <= max(context // 2, 1)


def test_sliding_asks_for_exactly_the_window() -> None:
    model = Recorder(context_length=4)
    text = [1, 2, 3]
    text += generate_ids(model, [1, 2, 3], max_new_tokens=6, sampling=GREEDY, overflow="slide")
    windows = [text[window_start(length, 4) : length] for length in range(3, 9)]
    assert model.asked == windows


def test_without_sliding_a_full_context_gives_one_more_id_and_ends() -> None:
    model = Recorder(context_length=4)
    assert len(list(generate_ids(model, [1, 2], max_new_tokens=50, sampling=GREEDY))) == 3
    assert max(map(len, model.asked)) == 4
    assert len(list(generate_ids(model, [1, 2, 3, 4], max_new_tokens=50, sampling=GREEDY))) == 1


def test_a_prompt_longer_than_the_context_is_refused_at_once() -> None:
    message = "the prompt has 5 tokens, the model's context holds 4\n.*overflow='slide'"
    with pytest.raises(ModelError, match=message):
        generate_ids(Recorder(context_length=4), [1, 2, 3, 4, 5], max_new_tokens=1)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([3, 10], "the prompt holds id 10, the vocabulary ends at 9"),
        ([-1, 3], "the prompt holds id -1"),
        ([[1, 2]], "one row of ids"),
    ],
)
def test_a_bad_prompt_is_refused_at_once(prompt: list[int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        generate_ids(Recorder(), prompt, max_new_tokens=1)


def test_bad_arguments_are_refused_at_once() -> None:
    with pytest.raises(ModelError, match="max_new_tokens=-1 is negative"):
        generate_ids(Recorder(), [1], max_new_tokens=-1)
    with pytest.raises(ModelError, match="overflow='slid'"):
        generate_ids(Recorder(), [1], max_new_tokens=1, overflow="slid")  # type: ignore[arg-type]


def test_no_new_tokens_are_none() -> None:
    assert list(generate_ids(Recorder(), [1], max_new_tokens=0)) == []


def test_padding_of_the_vocabulary_is_never_chosen() -> None:
    class Padded:
        vocab_size, context_length = 64, None

        def next_log_probs(self, ids: Tensor) -> Tensor:
            return torch.arange(64.0).expand(*ids.shape, 64).log_softmax(-1)

    ids = list(generate_ids(Padded(), [1], max_new_tokens=20, n_ids=10))
    assert max(ids) == 9
    with pytest.raises(ModelError, match="id 10"):
        generate_ids(Padded(), [10], max_new_tokens=1, n_ids=10)


def test_each_id_comes_with_the_logits_it_was_chosen_from() -> None:
    seen: list[tuple[int, int]] = []
    ids = list(
        generate_ids(
            Recorder(),
            [3],
            max_new_tokens=3,
            sampling=GREEDY,
            on_token=lambda id_, logits: seen.append((id_, int(logits.argmax()))),
        )
    )
    assert seen == [(i, i) for i in ids]


def test_a_text_outgrows_its_first_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(generate_ids(Recorder(), [3], max_new_tokens=40, sampling=GREEDY))
    monkeypatch.setattr("stemma.inference.growing_text._FIRST_CAPACITY", 1)
    assert list(generate_ids(Recorder(), [3], max_new_tokens=40, sampling=GREEDY)) == whole


def test_the_repetition_penalty_sees_prompt_and_continuation() -> None:
    class Flat:
        vocab_size, context_length = 6, 3

        def next_log_probs(self, ids: Tensor) -> Tensor:
            return torch.full((*ids.shape, 6), 1 / 6).log()

    rules = SamplingConfig(temperature=0, repetition_penalty=1.5)
    ids = list(generate_ids(Flat(), [0, 2], max_new_tokens=4, sampling=rules, overflow="slide"))
    assert ids == [1, 3, 4, 5]


def test_the_iterator_leaves_gradients_and_modes_as_they_were() -> None:
    class Module(nn.Module):
        vocab_size, context_length = 5, None

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5))
            self.frozen = nn.Dropout().eval()
            self.dropout = nn.Dropout()
            self.modes: list[bool] = []

        def next_log_probs(self, ids: Tensor) -> Tensor:
            self.modes.append(self.training or self.dropout.training)
            assert torch.is_inference_mode_enabled()
            return self.weight.expand(*ids.shape, 5).log_softmax(-1)

    model = Module().train()
    model.frozen.eval()
    ids = generate_ids(model, [1], max_new_tokens=3)
    next(ids)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    list(ids)
    assert model.modes == [False] * 3
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)


def test_the_same_seed_gives_the_same_ids() -> None:
    class Flat:
        vocab_size, context_length = 100, None

        def next_log_probs(self, ids: Tensor) -> Tensor:
            return torch.zeros(*ids.shape, 100)

    def ids(seed: int | None) -> list[int]:
        return list(
            generate_ids(Flat(), [1], max_new_tokens=20, sampling=SamplingConfig(seed=seed))
        )

    assert ids(1) == ids(1) != ids(2)
    assert ids(None) != ids(None)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_an_n_gram_is_asked_only_about_the_history_it_uses(order: int) -> None:
    text = torch.randint(0, 6, (400,), generator=torch.Generator().manual_seed(0))
    model = NGram.fit(text.numpy(), order, vocab_size=6)
    ids = text[None, 100:130]
    torch.testing.assert_close(predict(model, ids), model.next_log_probs(ids)[:, -1])
    rules = SamplingConfig(seed=0, top_p=0.9)
    assert len(list(generate_ids(model, text[:3], max_new_tokens=50, sampling=rules))) == 50


def test_every_public_name_is_there() -> None:
    assert {name for name in inference.__all__ if hasattr(inference, name)} == {*inference.__all__}
    with pytest.raises(AttributeError, match="'nonsense'"):
        inference.nonsense  # noqa: B018
