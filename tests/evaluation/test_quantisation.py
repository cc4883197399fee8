"""The loss by quantisation is what evaluating by hand gives."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from stemma.evaluation import evaluate, quantisation_loss
from stemma.inference import quantise
from stemma.models import TransformerConfig


def test_each_line_is_the_evaluation_of_a_quantised_copy() -> None:
    model = TransformerConfig(
        vocab_size=20, context_length=8, d_model=32, n_layers=2, attention={"n_heads": 2}
    ).build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    before = copy.deepcopy(model.state_dict())
    tokens = torch.randint(20, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    found = list(quantisation_loss(model, tokens))
    assert [line.bits for line in found] == [None, "int8", "int4"]
    for line in found:
        twin = model if line.bits is None else quantise(copy.deepcopy(model), line.bits)
        expected = evaluate(twin, tokens, n_bytes=200)
        assert line.perplexity == pytest.approx(expected.perplexity)
        assert line.nats_per_token == pytest.approx(math.log(expected.perplexity))
        assert line.added == pytest.approx(line.nats_per_token - found[0].nats_per_token, abs=1e-9)
    assert found[0].standard_error == 0 < found[1].standard_error < found[2].standard_error
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
