"""Texts of different lengths, generated together, are those they would be alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from stemma.errors import ConfigError, ModelError
from stemma.inference import (
    Batch,
    ContinuousBatch,
    GrowingText,
    SamplingConfig,
    generate,
    generate_batch,
    generate_ids,
)
from stemma.nn import RaggedCache
from stemma.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
MODEL = tiny_model()
SPEAKS = tiny_model(vocab_size=BYTES.vocab_size, seed=3)
RULES = [
    SamplingConfig(temperature=0),
    SamplingConfig(seed=1),
    SamplingConfig(seed=2, temperature=1.5, top_k=10, repetition_penalty=1.3),
    SamplingConfig(seed=3, frequency_penalty=0.7, presence_penalty=0.5, min_p=0.02),
]

prompts = st.lists(st.integers(0, 37), min_size=1, max_size=20)
requests = st.lists(
    st.tuples(
        prompts, st.integers(0, 40), st.sampled_from(RULES), st.sets(st.integers(0, 39), max_size=2)
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the engine pays depends on what this process has generated before."""
    monkeypatch.setattr("stemma.inference.batch.engine_for", lambda *_: None)


def alone(prompt: list[int], n: int, rules: SamplingConfig, stop_ids: set[int]) -> list[int]:
    return list(
        generate_ids(MODEL, prompt, max_new_tokens=n, sampling=rules, stop_ids=stop_ids, n_ids=38)
    )


def in_vocabulary(requests: list[Any]) -> list[Any]:
    return [
        ([id_ % 38 for id_ in prompt], n, r, set(sorted(s)[:2])) for prompt, n, r, s in requests
    ]


@settings(max_examples=25)
@given(requests)
def test_each_text_is_what_it_would_be_alone(requests: list[Any]) -> None:
    batch = Batch(MODEL, n_ids=38)
    texts: dict[int, list[int]] = {}
    for prompt, n, rules, stop_ids in requests:
        handle = batch.add(prompt, max_new_tokens=n, sampling=rules, stop_ids=stop_ids)
        texts[handle] = []
    ended = []
    while batch.busy:
        for token in batch.step():
            texts[token.handle].append(token.id)
            ended += [token.handle] if token.ended else []
    assert [*texts.values()] == [alone(*request) for request in requests]
    assert sorted(ended) == [i for i, request in enumerate(requests) if request[1] > 0]
    assert batch.step() == []


@pytest.mark.usefixtures("without_engine")
def test_long_prompts_are_fed_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, fed = tiny_model(context_length=600), list[tuple[int, ...]]()
    hidden_states = model.hidden_states

    def spy(ids: torch.Tensor, **options: Any) -> torch.Tensor:
        fed.append(tuple(ids.shape))
        return hidden_states(ids, **options)

    prompts = [[i * (2 * row + 3) % 38 for i in range(n)] for row, n in enumerate([400, 5, 300])]
    greedy = SamplingConfig(temperature=0)
    expected = [[*generate_ids(model, p, max_new_tokens=4, sampling=greedy)] for p in prompts]
    monkeypatch.setattr(model, "hidden_states", spy)
    batch, texts = Batch(model), dict[int, list[int]]()
    for prompt in prompts:
        texts[batch.add(prompt, max_new_tokens=4, sampling=greedy)] = []
    while batch.busy:
        for token in batch.step():
            texts[token.handle].append(token.id)
    assert [*texts.values()] == expected
    assert fed == [(1, 399), (1, 299), (3, 5), (3, 1), (3, 1), (3, 1)]


def batch_of(kind: str) -> Batch | ContinuousBatch:
    if kind == "together":
        return Batch(MODEL, n_ids=38)
    return ContinuousBatch(MODEL, n_ids=38, n_blocks=60, block_size=4, chunk=5)


def finish(batch: Batch | ContinuousBatch, texts: dict[int, list[int]]) -> list[list[int]]:
    while batch.busy:
        for token in batch.step():
            texts[token.handle].append(token.id)
    return [*texts.values()]


@pytest.mark.parametrize("kind", ["together", "continuous"])
@pytest.mark.parametrize("interrupted", range(1, 12, 2))
def test_an_interrupted_step_leaves_no_trace(
    kind: str, interrupted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[1], [2, 3], [4, 5, 6, 7, 8, 9, 10], [1]]
    batch, rules = batch_of(kind), SamplingConfig(seed=1, repetition_penalty=1.2)
    texts: dict[int, list[int]] = {
        batch.add(prompt, max_new_tokens=5, sampling=rules): [] for prompt in prompts
    }
    choose, calls = GrowingText.choose, list[int]()

    def until_interrupted(text: GrowingText, logits: torch.Tensor) -> int:
        id_ = choose(text, logits)
        calls.append(id_)
        if len(calls) == interrupted:
            raise KeyboardInterrupt
        return id_

    monkeypatch.setattr(GrowingText, "choose", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(batch, texts)
    assert finish(batch, texts) == [alone(prompt, 5, rules, set()) for prompt in prompts]


@pytest.mark.parametrize("kind", ["together", "continuous"])
@pytest.mark.parametrize("bad", range(3))
def test_others_go_on_without_a_text_whose_logits_are_no_numbers(
    kind: str, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, greedy = [[1, 2, 3], [4, 5], [6, 7, 8, 9]], SamplingConfig(temperature=0)
    batch = batch_of(kind)
    texts: dict[int, list[int]] = {
        batch.add(prompt, max_new_tokens=5, sampling=greedy): [] for prompt in prompts
    }
    expected = [alone(prompt, 5, greedy, set()) for prompt in prompts]
    expected[bad] = expected[bad][:1]
    choose = GrowingText.choose

    def spoilt(text: GrowingText, logits: torch.Tensor) -> int:
        is_bad = text.ids[0, 0] == prompts[bad][0] and text.length == len(prompts[bad]) + 1
        return choose(text, logits * math.nan if is_bad else logits)

    monkeypatch.setattr(GrowingText, "choose", spoilt)
    with pytest.raises(ModelError, match=f"text {bad} of the batch"):
        finish(batch, texts)
    batch.leave(bad)
    assert finish(batch, texts) == expected


@pytest.mark.parametrize("kind", ["together", "continuous"])
def test_a_request_that_no_step_could_serve_is_refused_at_once(kind: str) -> None:
    batch = batch_of(kind)
    with pytest.raises(ModelError, match="id 38 is outside the vocabulary of 38 ids"):
        batch.add([3], sampling=SamplingConfig(logit_bias={38: 1.0}))
    with pytest.raises(ModelError, match="max_new_tokens=-1 is negative"):
        batch.add([3], max_new_tokens=-1)
    assert not batch.busy


@pytest.mark.usefixtures("without_engine")
def test_a_text_that_has_ended_is_not_computed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    hidden_states = MODEL.hidden_states

    def spy(ids: torch.Tensor, **options: Any) -> torch.Tensor:
        sizes.append(len(ids))
        return hidden_states(ids, **options)

    monkeypatch.setattr(MODEL, "hidden_states", spy)
    batch = Batch(MODEL)
    for n in (1, 4, 2):
        batch.add([n], max_new_tokens=n)
    while batch.busy:
        batch.step()
    assert sizes == [3, 2, 1, 1]


@pytest.mark.usefixtures("without_engine")
def test_a_model_in_training_generates_as_it_does_alone() -> None:
    model = tiny_model(dropout=0.5)
    expected = [[*generate_ids(model, [n], max_new_tokens=9, sampling=RULES[0])] for n in (1, 2)]
    model.train()
    batch, texts = Batch(model), dict[int, list[int]]()
    for n in (1, 2):
        texts[batch.add([n], max_new_tokens=9, sampling=RULES[0])] = []
    while batch.busy:
        for token in batch.step():
            texts[token.handle].append(token.id)
    assert [*texts.values()] == expected
    assert all(part.training for part in model.modules())


@pytest.mark.usefixtures("without_engine")
@pytest.mark.parametrize(("new", "capacity"), [((10**9, 3), 48), ((5, 3), 6)])
def test_memory_is_for_what_the_texts_can_become(
    new: tuple[int, int], capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def spy(batch_size: int, *, capacity: int | None = None) -> RaggedCache:
        asked.append(capacity)
        return RaggedCache(MODEL.cache_layout(), batch_size, 48)

    monkeypatch.setattr(MODEL, "new_ragged_cache", spy)
    batch = Batch(MODEL)
    for n in new:
        batch.add([1], max_new_tokens=n)
    batch.step()
    assert asked == [capacity]


def test_an_id_that_the_model_lacks_is_refused_whatever_its_tokenizer_has() -> None:
    with pytest.raises(ModelError, match="45"):
        Batch(MODEL, n_ids=100).add([45])


def test_why_each_ended() -> None:
    batch = Batch(MODEL)
    batch.add([1], max_new_tokens=2)
    batch.add([1] * 47, max_new_tokens=50)
    batch.add([1], max_new_tokens=50, stop_ids=range(40))
    reasons = {}
    while batch.busy:
        reasons.update({token.handle: token.ended for token in batch.step() if token.ended})
    assert reasons == {0: "length", 1: "context", 2: "end_of_text"}


@pytest.mark.parametrize("paged", [False, True])
def test_generations_equal_those_made_alone(paged: bool) -> None:
    texts = ["", "a", "Once upon a time", "ROMEO: what"]
    rules = [rule.replace(seed=i) for i, rule in enumerate(RULES)]
    engine = (
        ContinuousBatch(SPEAKS, n_blocks=8, block_size=8, n_ids=BYTES.vocab_size) if paged else None
    )
    found = generate_batch(
        *(SPEAKS, BYTES, texts),
        max_new_tokens=20,
        sampling=rules,
        stop="e",
        top_alternatives=2,
        source=engine,
    )
    for text, rule, generation in zip(texts, rules, found, strict=True):
        expected = generate(
            *((SPEAKS, BYTES), text),
            max_new_tokens=20,
            sampling=rule,
            stop="e",
            top_alternatives=2,
        )
        assert generation.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
        for name in ("prompt", "text", "ids", "finish_reason", "seed"):
            assert getattr(generation, name) == getattr(expected, name), name
        ids = [[a.id for a in place] for place in generation.top_alternatives]
        assert ids == [[a.id for a in place] for place in expected.top_alternatives]


class Flat:
    """No cache at all."""

    vocab_size, context_length = BYTES.vocab_size, None

    def next_log_probs(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, self.vocab_size).log_softmax(-1)


def test_a_model_without_a_cache_generates_one_after_another() -> None:
    rules = SamplingConfig(seed=4)
    found = generate_batch(Flat(), BYTES, ["a", "bc"], max_new_tokens=5, sampling=rules)
    assert found[1] == generate((Flat(), BYTES), "bc", max_new_tokens=5, sampling=rules)


def test_errors() -> None:
    with pytest.raises(ModelError, match="Flat cannot keep rows of different lengths"):
        Batch(Flat())
    batch = Batch(MODEL)
    with pytest.raises(ModelError, match="the prompt is empty"):
        batch.add([])
    batch.add([1])
    batch.step()
    with pytest.raises(ModelError, match="the batch has begun"):
        batch.add([1])
    with pytest.raises(ModelError, match="1 samplings for 2 prompts"):
        generate_batch(SPEAKS, BYTES, ["a", "b"], sampling=[SamplingConfig()])
    assert generate_batch(SPEAKS, BYTES, []) == []
    with pytest.raises(ModelError, match=r"prompts is one text(.|\n)*list: \[prompts\]"):
        generate_batch(SPEAKS, BYTES, "abc")


def test_rules_are_laid_over_the_sampling_of_each_text_and_checked() -> None:
    wild = SamplingConfig(temperature=50, seed=1)
    for sampling in (wild, [wild, SamplingConfig()]):
        found = generate_batch(
            *(SPEAKS, BYTES, ["a", "bc"]), max_new_tokens=9, sampling=sampling, temperature=0
        )
        for text, generation in zip(["a", "bc"], found, strict=True):
            alone = generate((SPEAKS, BYTES), text, max_new_tokens=9, temperature=0)
            assert generation.ids == alone.ids
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        generate_batch(SPEAKS, BYTES, ["a"], temprature=2)  # type: ignore[call-arg]


def test_more_texts_than_rows_take_turns() -> None:
    texts = [chr(97 + i) * (1 + i % 5) for i in range(9)]
    together = generate_batch(SPEAKS, BYTES, texts, max_new_tokens=6, sampling=RULES[0], rows=3)
    assert [row.text for row in together] == [
        generate((SPEAKS, BYTES), text, max_new_tokens=6, temperature=0).text for text in texts
    ]
