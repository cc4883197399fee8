"""Our own shapes: everything a config can say comes back, and nothing else is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import build_random

from stemma.errors import ConfigError, ModelError
from stemma.models import LocalLayersConfig, Transformer, TransformerConfig
from stemma.models.families import FAMILIES, family_for, family_named, family_of
from stemma.models.own import FAMILY as OWN
from stemma.nn import (
    AlibiConfig,
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    LinearHeadConfig,
    MaskedHeadConfig,
    MLPConfig,
    NoHeadConfig,
    NoPositionsConfig,
    PoolerConfig,
    RelativeBucketsConfig,
    RMSNormConfig,
    RotaryConfig,
    SinusoidalPositionsConfig,
    YarnScalingConfig,
)

NORMS = st.sampled_from(
    [LayerNormConfig(), LayerNormConfig(bias=False), RMSNormConfig(), RMSNormConfig(from_one=True)]
)
POSITIONS = st.sampled_from(
    [
        LearnedPositionsConfig(),
        SinusoidalPositionsConfig(),
        RotaryConfig(scaling=YarnScalingConfig(factor=2.0, original_context=5)),
        AlibiConfig(),
        RelativeBucketsConfig(),
        NoPositionsConfig(),
    ]
)
HEADS = [
    LinearHeadConfig(bias=True, softcap=3.0),
    LinearHeadConfig(),
    MaskedHeadConfig(norm=LayerNormConfig()),
    PoolerConfig(),
    NoHeadConfig(),
]


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    head = draw(st.sampled_from(HEADS))
    activation = draw(st.sampled_from(["gelu", "silu", "relu2"]))
    attention = AttentionConfig(
        n_heads=2,
        n_kv_heads=draw(st.sampled_from([None, 1])),
        d_head=draw(st.sampled_from([None, 2])),
        bias=draw(st.sampled_from([True, False, "qkv"])),
        qk_norm=draw(st.none() | NORMS),
        scale=draw(st.sampled_from([None, 0.3])),
        softcap=draw(st.sampled_from([None, 2.0])),
        sinks=draw(st.booleans()),
    )
    local = st.builds(
        LocalLayersConfig,
        window=st.integers(1, 4),
        global_every=st.sampled_from([None, 2]),
        position=st.none() | POSITIONS,
    )
    feedforward = draw(
        st.sampled_from(
            [MLPConfig(activation=activation), GatedMLPConfig(d_ff=5, activation=activation)]
        )
    )
    return TransformerConfig(
        vocab_size=11,
        context_length=7,
        d_model=8,
        n_layers=draw(st.integers(0, 3)),
        attention=attention,
        feedforward=feedforward,
        norm=draw(NORMS),
        position=draw(POSITIONS),
        placement=draw(st.sampled_from(["pre", "post", "sandwich", "none"])),
        causal=draw(st.booleans()),
        local=draw(st.none() | local),
        head=head,
        residual=draw(st.booleans()),
        tie_embeddings=not isinstance(head, PoolerConfig | NoHeadConfig) and draw(st.booleans()),
        scale_embeddings=draw(st.booleans()),
        embedding_norm=draw(st.booleans()),
        n_segments=draw(st.sampled_from([None, 2])),
    )


@settings(max_examples=150)
@given(config=configs(), seed=st.integers(0, 50))
def test_whatever_family_writes_it_the_same_model_is_read(
    config: TransformerConfig, seed: int
) -> None:
    """No field that decides the numbers is lost in any family's files."""
    model = build_random(config, seed)
    ids = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(seed))
    for family in {id(f): f for f in (family_for(config), OWN)}.values():
        config_json, tensors = family.to_huggingface(config, model.state_dict())
        assert family_named(config_json["model_type"]) is family
        read, state = family.from_huggingface(config_json, tensors)
        again = Transformer(read).eval()
        again.load_state_dict(state, strict=False)
        again.tie_weights()
        assert model(ids).isfinite().all()
        assert torch.equal(again(ids), model(ids))


def test_the_own_family_is_the_last_resort() -> None:
    plain = TransformerConfig(
        vocab_size=5, context_length=4, d_model=8, n_layers=1, attention=AttentionConfig(n_heads=2)
    )
    assert family_for(plain) is FAMILIES["gpt2"]
    odd = plain.replace(attention=AttentionConfig(n_heads=2, sinks=True))
    assert family_of(odd) is None
    assert family_for(odd) is OWN


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"transformer": None}, "transformer = None"),
        ({"transformer": [1]}, "transformer"),
        ({"hidden_size": 9}, "hidden_size = 9"),
        ({"surprise": 1}, "surprise = 1"),
        ({"architectures": ["Other"]}, "architectures = 'Other'"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict[str, Any], named: str) -> None:
    config = TransformerConfig(
        vocab_size=5, context_length=4, d_model=8, n_layers=1, attention=AttentionConfig(n_heads=2)
    )
    with pytest.raises(ModelError) as caught:
        OWN.read_config({**OWN.write_config(config), **changes})
    assert named in str(caught.value)


def test_a_field_from_another_version_is_named() -> None:
    config = TransformerConfig(
        vocab_size=5, context_length=4, d_model=8, n_layers=1, attention=AttentionConfig(n_heads=2)
    )
    config_json = OWN.write_config(config)
    config_json["transformer"]["novelty"] = 1
    with pytest.raises(ConfigError, match="novelty"):
        OWN.read_config(config_json)
