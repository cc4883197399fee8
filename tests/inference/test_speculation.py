"""Speculative decoding: the model's distribution, exactly; and tests that a wrong rule fails."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference import (
    Draft,
    GrowingText,
    ModelDraft,
    PromptLookup,
    Proposal,
    SamplingConfig,
    SpeculationStatistics,
    collect,
    generate_ids,
    residual,
    speculate_ids,
    stream,
)
from stemma.inference.sampling import distribution, draw
from stemma.tokenizers import ByteTokenizer

GREEDY = SamplingConfig(temperature=0)
BYTES = ByteTokenizer()


class Chain:
    """The next id depends on the last one: rows of random logits."""

    context_length = None

    def __init__(self, seed: int, vocab_size: int = 4, spread: float = 1.0) -> None:
        self.vocab_size = vocab_size
        source = torch.Generator().manual_seed(seed)
        self.logits = spread * torch.randn(vocab_size, vocab_size, generator=source)

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return self.logits[ids].log_softmax(-1)


TARGET, OTHER = Chain(1), Chain(2)
# Every id stands in it, so that prompt lookup always has a guess.
PROMPT = [0, 1, 0, 3, 2, 0]
RULES = {
    "plain": SamplingConfig(),
    "truncated": SamplingConfig(temperature=1.4, top_k=3, top_p=0.9),
    "penalised": SamplingConfig(repetition_penalty=1.5, frequency_penalty=0.8, logit_bias={1: 0.5}),
}


def exact_joint(rules: SamplingConfig, n: int = 3) -> dict[tuple[int, ...], float]:
    """Probability of each text of ``n`` ids behind the prompt, by the model alone."""
    joint = {}
    for ids in product(range(TARGET.vocab_size), repeat=n):
        probability = 1.0
        for i, id_ in enumerate(ids):
            seen = torch.tensor([[*PROMPT, *ids[:i]]])
            logits = TARGET.next_log_probs(seen)[:, -1]
            p = distribution(logits, rules, seen=seen, n_prompt=len(PROMPT))
            probability *= float(p[0, id_])
        joint[ids] = probability
    return joint


def p_value(draft: Draft, rules: SamplingConfig, n_samples: int, seed: int) -> float:
    """Of the chi-square test of the joint of three ids; cells of fewer than 5 are pooled."""
    counts: Counter[tuple[int, ...]] = Counter()
    for i in range(n_samples):
        own = rules.replace(seed=1_000_000 * seed + i)
        ids = speculate_ids(TARGET, PROMPT, draft=draft, n_draft=2, max_new_tokens=3, sampling=own)
        counts[tuple(ids)] += 1
    statistic, n_cells, pooled = 0.0, 0, [0.0, 0.0]
    for ids, probability in exact_joint(rules).items():
        expected = n_samples * probability
        if expected == 0:
            assert counts[ids] == 0
        elif expected < 5:
            pooled = [pooled[0] + expected, pooled[1] + counts[ids]]
        else:
            statistic += (counts[ids] - expected) ** 2 / expected
            n_cells += 1
    if pooled[0] >= 5:
        statistic += (pooled[1] - pooled[0]) ** 2 / pooled[0]
        n_cells += 1
    half = torch.tensor([n_cells - 1, statistic], dtype=torch.float64) / 2
    return float(torch.special.gammaincc(half[0], half[1]))


def drafts() -> dict[str, Draft]:
    return {"model": ModelDraft(OTHER), "lookup": PromptLookup(shortest=1)}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("draft", ["model", "lookup"])
def test_the_joint_distribution_is_the_model_s(draft: str, rules: str) -> None:
    assert p_value(drafts()[draft], RULES[rules], 1500, seed=1) > 0.001


@pytest.mark.parametrize("draft", ["model", "lookup"])
def test_drawing_from_p_instead_of_the_residual_is_seen(
    draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemma.inference.speculation.residual", lambda p, q: p)
    assert p_value(drafts()[draft], RULES["plain"], 1500, seed=1) < 1e-6


def test_a_draft_that_hides_its_rules_is_seen() -> None:
    """The draft draws from a truncated distribution and says that it was the whole one."""

    class Hiding:
        def propose(self, text: GrowingText, n: int) -> Proposal:
            ids = [int(text.ids[0, -1])]
            for _ in range(n):
                ids.append(int(OTHER.logits[ids[-1]].argmax()))
            return Proposal(ids[1:], OTHER.logits[ids[:n]].softmax(-1))

    assert p_value(Hiding(), RULES["plain"], 1500, seed=1) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_joint_distribution_of_many_samples(seed: int) -> None:
    assert p_value(ModelDraft(OTHER), RULES["plain"], 20_000, seed) > 0.001


@pytest.mark.parametrize("n_draft", [1, 2, 4, 8])
def test_ids_for_each_call_are_as_many_as_the_formula_says(n_draft: int) -> None:
    """One distribution for all places, so that acceptance does not depend on the place."""
    target, other = Chain(1), Chain(2)
    target.logits = target.logits[:1].expand(4, 4)
    other.logits = other.logits[:1].expand(4, 4)
    p, q = target.logits[0].softmax(-1), other.logits[0].softmax(-1)
    a = float(torch.minimum(p, q).sum())
    statistics = SpeculationStatistics()
    ids = speculate_ids(
        *(target, [0]),
        draft=ModelDraft(other),
        n_draft=n_draft,
        max_new_tokens=2500,
        sampling=SamplingConfig(seed=1),
        statistics=statistics,
    )
    assert len(list(ids)) == statistics.chosen == 2500
    expected = (1 - a ** (n_draft + 1)) / (1 - a)
    calls = statistics.target_calls
    # Ids of one call have a standard deviation below n_draft / 2: three standard errors.
    assert abs(statistics.tokens_per_call - expected) < 3 * (n_draft / 2) / calls**0.5
    assert statistics.overlap / statistics.examined == pytest.approx(a, abs=1e-5)
    assert abs(statistics.acceptance - a) < 3 * 0.5 / statistics.examined**0.5


MODEL = tiny_model()
NEAR = tiny_model(seed=1)
with torch.no_grad():
    for parameter in NEAR.parameters():
        parameter.add_(
            0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9))
        )
KINDS = {
    "itself": lambda: ModelDraft(MODEL),
    "near": lambda: ModelDraft(NEAR),
    "far": lambda: ModelDraft(tiny_model(seed=5)),
    "short": lambda: ModelDraft(tiny_model(seed=1, context_length=12)),
    "uncached": lambda: ModelDraft(NEAR, cached=False),
    "lookup": lambda: PromptLookup(shortest=1),
}


@settings(max_examples=25)
@given(
    prompt=st.lists(st.integers(0, 37), min_size=1, max_size=30),
    n=st.integers(0, 40),
    n_draft=st.integers(1, 7),
    stop_id=st.integers(0, 39),
    penalty=st.sampled_from([0.0, 1.5]),
    kind=st.sampled_from([*KINDS]),
    cached=st.booleans(),
)
def test_greedy_text_is_the_model_s_id_for_id(
    *,
    prompt: list[int],
    n: int,
    n_draft: int,
    stop_id: int,
    penalty: float,
    kind: str,
    cached: bool,
) -> None:
    options: dict[str, Any] = {
        "max_new_tokens": n,
        "sampling": SamplingConfig(temperature=0, frequency_penalty=penalty),
        "stop_ids": [stop_id],
        "n_ids": 38,
        "cached": cached,
    }
    logits: list[list[Tensor]] = [[], []]
    alone = generate_ids(MODEL, prompt, on_token=lambda _, row: logits[0].append(row), **options)
    drafted = speculate_ids(
        *(MODEL, prompt),
        draft=KINDS[kind](),
        n_draft=n_draft,
        on_token=lambda _, row: logits[1].append(row),
        **options,
    )
    assert list(alone) == list(drafted)
    for row, expected in zip(logits[1], logits[0], strict=True):
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-4)


def test_a_model_that_drafts_for_itself_is_always_right() -> None:
    statistics = SpeculationStatistics()
    options: dict[str, Any] = {"n_draft": 4, "max_new_tokens": 40, "statistics": statistics}
    rules = SamplingConfig(seed=1)
    list(speculate_ids(MODEL, [1], draft=ModelDraft(MODEL), sampling=rules, **options))
    assert statistics.accepted == statistics.examined == statistics.proposed == 32
    assert (statistics.target_calls, statistics.tokens_per_call) == (8, 5.0)


def proposal(ids: list[int], n: int = 3, **options: int) -> list[int]:
    text = GrowingText(torch.tensor(ids), SamplingConfig(), n_ids=40)
    return PromptLookup(**options).propose(text, n).ids


def test_lookup_by_hand() -> None:
    assert proposal([1, 2, 3, 4, 9, 1, 2, 3]) == [4, 9, 1]
    assert proposal([1, 2, 3, 8, 2, 3, 7, 1, 2, 3]) == [8, 2, 3]  # the longest run decides
    assert proposal([1, 2, 3, 8, 2, 3, 7, 1, 2, 3], longest=2) == [7, 1, 2]  # then the latest
    assert proposal([1, 2, 3]) == []
    assert proposal([1, 2, 1]) == []  # a single id is no evidence
    assert proposal([5, 5], shortest=1) == [5]
    assert proposal([5]) == []
    assert proposal([1, 2, 1], shortest=1) == [2, 1]


def test_residual_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.7, 0.1])
    torch.testing.assert_close(residual(p, q), torch.tensor([0.3, 0.0, 0.1]))
    assert residual(p, p) is p


def test_it_streams_text() -> None:
    model = tiny_model(vocab_size=BYTES.vocab_size, seed=3)

    def decode(*arguments: Any, **options: Any) -> Any:
        return speculate_ids(*arguments, draft=PromptLookup(shortest=1), **options)

    drafted = collect(
        stream(model, BYTES, "abc", max_new_tokens=20, sampling=GREEDY, decode=decode)
    )
    alone = collect(stream(model, BYTES, "abc", max_new_tokens=20, sampling=GREEDY))
    assert (drafted.ids, drafted.text) == (alone.ids, alone.text)


def test_errors() -> None:
    options: dict[str, Any] = {"draft": PromptLookup(), "max_new_tokens": 3}
    with pytest.raises(ModelError, match="a sliding window with speculation"):
        speculate_ids(MODEL, [1], overflow="slide", **options)
    with pytest.raises(ModelError, match="n_draft=0"):
        speculate_ids(MODEL, [1], n_draft=0, **options)
    with pytest.raises(ModelError, match="the prompt is empty"):
        speculate_ids(MODEL, [], **options)
    with pytest.raises(ModelError, match="the draft has 4 ids, the model 40"):
        list(speculate_ids(MODEL, [1], **{**options, "draft": ModelDraft(TARGET)}))
    with pytest.raises(ModelError, match="1 <= shortest <= longest"):
        PromptLookup(shortest=4)


def test_a_draft_draws_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them would wait for each other longer than they draw."""
    before, found = torch.get_num_threads(), list[tuple[str, int]]()

    def spy(name: str, function: Any) -> Any:
        def watched(*values: Any, **options: Any) -> Any:
            found.append((name, torch.get_num_threads()))
            return function(*values, **options)

        return watched

    monkeypatch.setattr("stemma.inference.drafts.distribution", spy("distribution", distribution))
    monkeypatch.setattr("stemma.inference.drafts.draw", spy("draw", draw))
    torch.set_num_threads(3)
    try:
        text = GrowingText(torch.tensor(PROMPT), SamplingConfig(seed=1), n_ids=4)
        ModelDraft(OTHER).propose(text, 1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert found == [("distribution", 1), ("draw", 1)]
