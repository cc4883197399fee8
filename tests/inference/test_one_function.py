"""Real models: however they are decoded, greedy ids are the same, one for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import stemma
from stemma.inference import (
    Batch,
    ContinuousBatch,
    ModelDraft,
    PromptLookup,
    SamplingConfig,
    SpeculationStatistics,
    TokenSource,
    beam_search,
    generate_ids,
    speculate_ids,
)
from stemma.models import Transformer

GREEDY = SamplingConfig(temperature=0)
Mirror = Callable[[str], Path]


def by(source: TokenSource, prompts: list[list[int]], n: int) -> list[list[int]]:
    """The ids of a batch or an engine."""
    texts: list[list[int]] = [[] for _ in prompts]
    for prompt in prompts:
        source.add(prompt, max_new_tokens=n, sampling=GREEDY)
    while source.busy:
        for token in source.step():
            texts[token.handle].append(token.id)
    return texts


def assert_one_function(model: Transformer, prompts: list[list[int]], n: int) -> None:
    def alone(**options: Any) -> list[list[int]]:
        return [
            list(generate_ids(model, prompt, max_new_tokens=n, sampling=GREEDY, **options))
            for prompt in prompts
        ]

    expected = alone()
    assert alone(cached=False) == expected
    assert by(Batch(model), prompts, n) == expected
    # A pool that is too small for all of them: some lose their blocks and come back.
    longest = max(map(len, prompts)) + n
    engine = ContinuousBatch(model, n_blocks=-(-longest // 16) + 1, chunk=24)
    assert by(engine, prompts, n) == expected
    for draft in (PromptLookup(shortest=1), ModelDraft(model)):
        for prompt, ids in zip(prompts, expected, strict=True):
            statistics = SpeculationStatistics()
            options: dict[str, Any] = {"max_new_tokens": n, "sampling": GREEDY}
            drafted = speculate_ids(model, prompt, draft=draft, statistics=statistics, **options)
            assert list(drafted) == ids
            assert statistics.target_calls <= n
    found = beam_search(model, prompts[0], n_beams=1, max_new_tokens=n)
    assert list(found[0].ids) == expected[0]


def prompts_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [[*tokenizer.encode(text).tolist()] for text in texts]


STORIES = ["Once upon a time", "The cat", "Tom and Lily went to the park. They saw a big dog and"]


@pytest.mark.parametrize(
    ("name", "n"), [("stories260K", 40), pytest.param("stories15M", 40, marks=pytest.mark.slow)]
)
def test_stories_are_told_alike_however_they_are_computed(
    name: str, n: int, mirror: Mirror
) -> None:
    model, tokenizer = stemma.load(mirror(f"weights/{name}"))
    with torch.inference_mode():
        assert_one_function(model, prompts_of(tokenizer, STORIES), n)


@pytest.mark.slow
def test_smollm2_says_the_same_however_it_is_computed(smollm2: Path) -> None:
    model, tokenizer = stemma.load(smollm2)
    texts = ["The capital of France is", "def add(a, b):\n    return", "In the year 1492, Columbus"]
    with torch.inference_mode():
        assert_one_function(model, prompts_of(tokenizer, texts), 12)
