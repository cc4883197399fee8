"""The families of one `Transformer` in small: for each a fixed config, and configs at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from stemma.models import LocalLayersConfig, TransformerConfig
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    LinearHeadConfig,
    LinearScalingConfig,
    Llama3ScalingConfig,
    MaskedHeadConfig,
    MLPConfig,
    MoEConfig,
    PoolerConfig,
    RMSNormConfig,
    RotaryConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)

SIZES = {"vocab_size": 23, "context_length": 9, "d_model": 8, "n_layers": 2}


def tiny_of(**usual: Any) -> Callable[..., TransformerConfig]:
    """Makes tiny configs of these parts, or of those that it is called with instead."""
    return lambda **changes: TransformerConfig(**{**SIZES, **usual, **changes})


def sizes(draw: st.DrawFn, most_layers: int = 3) -> dict[str, int]:
    return {
        "vocab_size": draw(st.integers(2, 40)),
        "context_length": draw(st.integers(1, 12)),
        "n_layers": draw(st.integers(1, most_layers)),
    }


# GPT-1, GPT-2 and BERT: norms with a bias, learned positions.

gpt1 = tiny_of(attention=AttentionConfig(n_heads=2), placement="post")
gpt2 = tiny_of(attention=AttentionConfig(n_heads=2), feedforward=MLPConfig(d_ff=32))
BERT_NORM = LayerNormConfig(eps=1e-12)
bert = tiny_of(
    attention=AttentionConfig(n_heads=2),
    feedforward=MLPConfig(d_ff=12, activation="gelu"),
    norm=BERT_NORM,
    placement="post",
    causal=False,
    head=MaskedHeadConfig(activation="gelu", norm=BERT_NORM),
    embedding_norm=True,
    n_segments=2,
)


@st.composite
def gpt1s(draw: st.DrawFn) -> TransformerConfig:
    n_heads = draw(st.integers(1, 4))
    return gpt1(
        **sizes(draw),
        d_model=n_heads * draw(st.integers(4, 8)),  # two features normed are two signs
        attention=AttentionConfig(n_heads=n_heads),
        feedforward=MLPConfig(activation=draw(st.sampled_from(["gelu_tanh", "relu", "silu"]))),
        norm=LayerNormConfig(eps=draw(st.sampled_from([1e-5, 1e-3]))),
        tie_embeddings=draw(st.booleans()),
    )


@st.composite
def gpt2s(draw: st.DrawFn) -> TransformerConfig:
    n_heads, d_head = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    return gpt2(
        **sizes(draw),
        d_model=n_heads * d_head * 2,
        attention=AttentionConfig(n_heads=n_heads),
        feedforward=MLPConfig(
            d_ff=draw(st.none() | st.integers(1, 40)),
            activation=draw(st.sampled_from(["gelu_tanh", "gelu", "silu", "relu", "relu2"])),
        ),
        norm=LayerNormConfig(eps=draw(st.sampled_from([1e-5, 1e-3]))),
        tie_embeddings=draw(st.booleans()),
    )


@st.composite
def berts(draw: st.DrawFn) -> TransformerConfig:
    n_heads = draw(st.integers(1, 4))
    norm = LayerNormConfig(eps=draw(st.sampled_from([1e-12, 1e-3])))
    activation = draw(st.sampled_from(["gelu", "relu", "gelu_tanh"]))
    pooled = draw(st.booleans())
    return bert(
        **sizes(draw),
        d_model=n_heads * draw(st.integers(4, 8)),  # two features normed are two signs
        attention=AttentionConfig(n_heads=n_heads),
        feedforward=MLPConfig(d_ff=draw(st.integers(1, 40)), activation=activation),
        norm=norm,
        head=PoolerConfig() if pooled else MaskedHeadConfig(activation=activation, norm=norm),
        tie_embeddings=not pooled and draw(st.booleans()),
        n_segments=draw(st.integers(1, 3)),
    )


# Llama's shape: gains without biases, rotations, gates, shared keys.


def llama_shaped(d_head: int | None = 6, bias: Any = False, **usual: Any) -> Callable[..., Any]:
    values = {
        "attention": AttentionConfig(n_heads=2, n_kv_heads=1, d_head=d_head, bias=bias),
        "feedforward": GatedMLPConfig(d_ff=12),
        "norm": RMSNormConfig(),
        "position": RotaryConfig(),
        "tie_embeddings": False,
    }
    return tiny_of(**{**values, **usual})


llama = llama_shaped(d_head=4)
qwen2 = llama_shaped(d_head=None, bias="qkv")
mistral = llama_shaped()
qwen3 = llama_shaped(
    d_model=12,
    attention=AttentionConfig(
        n_heads=4, n_kv_heads=2, d_head=6, bias=False, qk_norm=RMSNormConfig()
    ),
)
gemma3 = llama_shaped(
    n_layers=3,
    attention=AttentionConfig(
        n_heads=2,
        n_kv_heads=1,
        d_head=6,
        bias=False,
        qk_norm=RMSNormConfig(from_one=True),
        scale=7**-0.5,
    ),
    feedforward=GatedMLPConfig(d_ff=12, activation="gelu_tanh"),
    norm=RMSNormConfig(from_one=True),
    position=RotaryConfig(theta=1_000_000.0),
    placement="sandwich",
    local=LocalLayersConfig(window=3, global_every=2, position=RotaryConfig(theta=10_000.0)),
    scale_embeddings=True,
    tie_embeddings=True,
)
mixtral = llama_shaped(feedforward=MoEConfig(d_ff=12, n_experts=4, n_active=2))
qwen3_moe = llama_shaped(
    attention=AttentionConfig(
        n_heads=2, n_kv_heads=1, d_head=6, bias=False, qk_norm=RMSNormConfig()
    ),
    feedforward=MoEConfig(d_ff=12, n_experts=4, n_active=2),
)


def scalings() -> st.SearchStrategy[RotaryScalingConfig | None]:
    factor, context = st.sampled_from([1.0, 2.0, 8.0]), st.integers(1, 12)
    return (
        st.none()
        | st.builds(LinearScalingConfig, factor=factor)
        | st.builds(Llama3ScalingConfig, factor=factor, original_context=context)
        | st.builds(YarnScalingConfig, factor=factor, original_context=context)
    )


@st.composite
def llamas(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    return llama(
        **sizes(draw),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.none() | st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
        ),
        feedforward=GatedMLPConfig(
            d_ff=draw(st.integers(1, 40)),
            activation=draw(st.sampled_from(["gelu_tanh", "gelu", "silu", "relu", "relu2"])),
            bias=draw(st.booleans()),
        ),
        norm=RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3]))),
        position=RotaryConfig(
            theta=draw(st.sampled_from([100.0, 10_000.0, 500_000.0])), scaling=draw(scalings())
        ),
        tie_embeddings=draw(st.booleans()),
    )


@st.composite
def windowed(draw: st.DrawFn, tiny: Callable[..., TransformerConfig]) -> TransformerConfig:
    """Qwen2 and Mistral."""
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    any_size = st.sampled_from([2, 4, 10]) if tiny is mistral else st.none()
    every = st.none() if tiny is mistral else st.sampled_from([None, 2])
    windows = st.builds(LocalLayersConfig, window=st.integers(1, 9), global_every=every)
    return tiny(
        **sizes(draw),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=draw(any_size),
            bias=tiny().attention.bias,
        ),
        feedforward=GatedMLPConfig(d_ff=draw(st.integers(1, 40))),
        norm=RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3]))),
        position=RotaryConfig(theta=draw(st.sampled_from([100.0, 1_000_000.0]))),
        tie_embeddings=draw(st.booleans()),
        local=draw(st.none() | windows),
    )


@st.composite
def qwen3s(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    norm = RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3])))
    return qwen3(
        **sizes(draw),
        d_model=draw(st.integers(4, 24)),
        attention=AttentionConfig(
            n_heads=n_kv_heads * groups,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
            qk_norm=norm,
        ),
        feedforward=GatedMLPConfig(
            d_ff=draw(st.integers(1, 40)), activation=draw(st.sampled_from(["silu", "relu2"]))
        ),
        norm=norm,
        position=RotaryConfig(theta=draw(st.sampled_from([100.0, 10_000.0, 1_000_000.0]))),
        tie_embeddings=draw(st.booleans()),
    )


@st.composite
def gemma3s(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * groups
    norm = RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3])), from_one=True)
    return gemma3(
        **sizes(draw, most_layers=4),
        d_model=n_heads * 2 * draw(st.integers(1, 4)),
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()),
            qk_norm=norm,
            scale=draw(st.sampled_from([1, 7, 256])) ** -0.5,
        ),
        feedforward=GatedMLPConfig(d_ff=draw(st.integers(1, 40)), activation="gelu_tanh"),
        norm=norm,
        position=RotaryConfig(
            theta=draw(st.sampled_from([100.0, 1_000_000.0])),
            scaling=draw(st.sampled_from([None, LinearScalingConfig(factor=8.0)])),
        ),
        local=LocalLayersConfig(
            window=draw(st.integers(1, 9)),
            global_every=draw(st.sampled_from([None, 2, 3])),
            position=RotaryConfig(theta=draw(st.sampled_from([100.0, 10_000.0]))),
        ),
        head=LinearHeadConfig(softcap=draw(st.sampled_from([None, 2.0]))),
        tie_embeddings=draw(st.booleans()),
    )


@st.composite
def mixtures(draw: st.DrawFn, tiny: Callable[..., TransformerConfig]) -> TransformerConfig:
    """Mixtral and Qwen3 with experts; only the latter can leave the weights of its experts be."""
    n_kv_heads, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    n_experts = draw(st.integers(1, 6))
    n_active = draw(st.integers(1, n_experts))
    is_qwen = tiny is qwen3_moe
    must_be_plain = n_active == 1 < n_experts
    if must_be_plain and not is_qwen:
        n_active = 2
    norm = RMSNormConfig(eps=draw(st.sampled_from([1e-6, 1e-3])))
    return tiny(
        **sizes(draw, most_layers=2),
        d_model=4 * draw(st.integers(1, 4)),
        attention=AttentionConfig(
            n_heads=n_kv_heads * groups,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([2, 4, 10])),
            bias=draw(st.booleans()) if is_qwen else False,
            qk_norm=norm if is_qwen else None,
        ),
        feedforward=MoEConfig(
            d_ff=draw(st.integers(1, 20)),
            n_experts=n_experts,
            n_active=n_active,
            renormalize=not (is_qwen and (must_be_plain or draw(st.booleans()))),
            activation=draw(st.sampled_from(["silu", "relu", "sigmoid", "identity"])),
        ),
        norm=norm,
        local=None if is_qwen else draw(st.none() | st.just(LocalLayersConfig(window=2))),
        tie_embeddings=draw(st.booleans()),
    )
