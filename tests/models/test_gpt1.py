"""GPT-1: GPT-2's layers with the norms after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models import TransformerConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, LayerNormConfig, MLPConfig, RotaryConfig

Check = Callable[..., None]
GPT1 = FAMILIES["openai-gpt"]


def tiny(**changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": AttentionConfig(n_heads=2),
        "placement": "post",
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_heads = draw(st.integers(1, 4))
    return tiny(
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=n_heads * draw(st.integers(4, 8)),  # two features normed are two signs
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(n_heads=n_heads),
        feedforward=MLPConfig(activation=draw(st.sampled_from(["gelu_tanh", "relu", "silu"]))),
        norm=LayerNormConfig(eps=draw(st.sampled_from([1e-5, 1e-3]))),
        tie_embeddings=draw(st.booleans()),
    )


@settings(max_examples=25)
@given(config=configs(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(
    assert_parity: Check, config: TransformerConfig, seed: int
) -> None:
    assert_parity(GPT1, config, seed)


def test_the_comparison_can_fail(assert_sensitivity: Check) -> None:
    assert_sensitivity(GPT1, tiny())


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_identical_to_the_bit(assert_round_trip: Check, tied: bool) -> None:
    torch.manual_seed(3)
    other = transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(
            vocab_size=23, n_positions=9, n_embd=8, n_layer=2, n_head=2, tie_word_embeddings=tied
        )
    )
    assert_round_trip(GPT1, tiny(tie_embeddings=tied), other)


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
