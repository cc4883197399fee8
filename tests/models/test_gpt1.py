"""GPT-1: GPT-2's layers with the norms after them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import gpt1 as tiny

from stemma.errors import ModelError
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, MLPConfig, RotaryConfig

GPT1 = FAMILIES["openai-gpt"]


def test_it_has_the_117_million_parameters_of_the_paper() -> None:
    config = tiny(
        vocab_size=40_478,
        context_length=512,
        d_model=768,
        n_layers=12,
        attention=AttentionConfig(n_heads=12),
    )
    with torch.device("meta"):
        model = config.build()
    assert model.n_parameters() == 116_534_784
    assert family_of(config) is GPT1
    assert GPT1.read_config({"model_type": "openai-gpt"}) == config


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"placement": "pre"}, "placement = 'pre'"),
        ({"position": RotaryConfig()}, "position.kind = 'rotary'"),
        ({"feedforward": MLPConfig(activation="gelu")}, "feedforward.activation = 'gelu'"),
        ({"feedforward": MLPConfig(d_ff=5)}, "feedforward.d_ff = 5"),
        ({"attention": AttentionConfig(n_heads=2, d_head=3)}, "attention.d_head = 3"),
    ],
)
def test_what_gpt1_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        GPT1.write_config(tiny(**changes))
    assert field in str(caught.value)
