"""Compiled decoding: the same ids, and no program for each position."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import nn
from torch._dynamo.testing import CompileCounter

from stemma.errors import ModelError
from stemma.inference import (
    SamplingConfig,
    beam_search,
    compiled,
    decode_one,
    generate_ids,
    prefill,
)

KINDS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "learned": {"position": {"kind": "learned"}},
    "alibi": {"position": {"kind": "alibi"}},
    "window": {"local": {"window": 5, "global_every": 2}},
    "sinks": {"attention": {"n_heads": 4, "sinks": True, "softcap": 5.0}},
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


def greedy(model: Any, prompt: list[int], n: int = 20) -> list[int]:
    rules = SamplingConfig(temperature=0)
    return list(generate_ids(model, prompt, max_new_tokens=n, sampling=rules))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_same_by_programs_of_fixed_shapes(kind: str) -> None:
    model = tiny_model(**KINDS[kind])
    fixed = compiled(model, parts=frozenset({"decode", "prefill"}), backend="eager")
    for prompt in ([3], [1, 2, 3, 4, 5]):
        assert greedy(fixed, prompt) == greedy(model, prompt)


def test_one_program_serves_every_position() -> None:
    counter = CompileCounter()
    model = compiled(tiny_model(context_length=64), backend=counter)
    assert len(greedy(model, [1, 2, 3], n=60)) == 60
    assert counter.frame_count == 1
    greedy(model, [5], n=50)
    greedy(model, [*range(40)], n=20)
    assert counter.frame_count == 1


def test_prompts_of_many_lengths_share_programs() -> None:
    counter = CompileCounter()
    model = compiled(tiny_model(context_length=64), parts=frozenset({"prefill"}), backend=counter)
    for n in range(2, 40, 3):
        greedy(model, [*range(n)], n=1)
    # Each capacity is a program: 16, 32 and 64.
    assert counter.frame_count <= 3


def test_a_cache_that_counts_with_numbers_is_compiled_again_and_again() -> None:
    """What the fixed cache is for: the same test sees it where positions are Python's numbers."""
    counter = CompileCounter()
    model = tiny_model(context_length=64)
    step = torch.compile(decode_one, backend=counter, dynamic=False)
    cache = model.new_cache(1, capacity=64)
    with torch.inference_mode():
        prefill(model, torch.tensor([[1, 2, 3]]), cache)
        for _ in range(4):
            step(model, torch.tensor([[4]]), cache)
    assert counter.frame_count >= 4


def test_rows_are_reordered_and_cut_back_as_before() -> None:
    model = tiny_model()
    fixed = compiled(model, backend="eager")
    found, expected = (
        beam_search(m, [1, 2], n_beams=3, max_new_tokens=10, end_ids=[7]) for m in (fixed, model)
    )
    assert [beam.ids for beam in found] == [beam.ids for beam in expected]
    cache = fixed.new_cache(1)
    with torch.inference_mode():
        prefill(fixed, torch.tensor([[1, 2, 3, 4]]), cache)
        first = decode_one(fixed, torch.tensor([[5]]), cache)
        cache.truncate(4)
        torch.testing.assert_close(decode_one(fixed, torch.tensor([[5]]), cache), first)


def test_what_does_not_fit_is_refused() -> None:
    fixed = compiled(tiny_model(context_length=16), backend="eager")
    cache = fixed.new_cache(1)
    with torch.inference_mode():
        prefill(fixed, torch.zeros(1, 16, dtype=torch.int64), cache)
        with pytest.raises(ModelError, match="holds 16 positions; 16 are taken and 1 more"):
            decode_one(fixed, torch.tensor([[1]]), cache)
    with pytest.raises(ModelError, match="Linear cannot be compiled for decoding"):
        compiled(nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler (g++)")
def test_compiled_by_inductor() -> None:
    model = tiny_model()
    assert greedy(compiled(model), [1, 2, 3]) == greedy(model, [1, 2, 3])
