"""Evaluation mode for a while: of several at a time, and back to what each part was."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stemma.inference.decode import generate_ids
from stemma.inference.evaluation_mode import _resting, evaluating
from stemma.inference.sampling_config import SamplingConfig
from stemma.models import Transformer, TransformerConfig


def model_of(dropout: float = 0.5) -> Transformer:
    config = TransformerConfig.parse(
        {
            "vocab_size": 13,
            "context_length": 32,
            "d_model": 8,
            "n_layers": 2,
            "attention": {"n_heads": 2},
            "dropout": dropout,
        }
    )
    return Transformer(config)


def test_two_texts_by_turns_are_what_they_are_alone() -> None:
    """The first ends while the second goes on: no dropout then either."""
    model = model_of()
    model.final_norm.eval()
    greedy = SamplingConfig(temperature=0)
    alone = [*generate_ids(model, [3, 1, 4], max_new_tokens=20, sampling=greedy)]
    short = generate_ids(model, [1, 2], max_new_tokens=3, sampling=greedy)
    next(short)
    found = []
    for id_ in generate_ids(model, [3, 1, 4], max_new_tokens=20, sampling=greedy):
        found.append(id_)
        next(short, None)
    assert found == alone
    assert model.training
    assert not model.final_norm.training


@settings(max_examples=40)
@given(st.data())
def test_the_last_one_puts_everything_back(data: st.DataObject) -> None:
    """Whoever ends first, and whatever begins to train again in between."""
    model: nn.Module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    parts = [*model.modules()]
    for part in parts:
        part.training = data.draw(st.booleans())
    before = [part.training for part in parts]
    stacks = []
    for _ in range(data.draw(st.integers(1, 4))):
        stacks.append(ExitStack())
        stacks[-1].enter_context(evaluating(model))  # type: ignore[arg-type]
    for stack in data.draw(st.permutations(stacks)):
        assert not any(part.training for part in parts)
        stack.close()
    assert [part.training for part in parts] == before
    assert model not in _resting


def test_an_error_ends_it_too() -> None:
    model = model_of()
    with pytest.raises(ValueError, match="wrong"), evaluating(model):
        raise ValueError("wrong")
    assert all(part.training for part in model.modules())
    assert torch.is_grad_enabled()
