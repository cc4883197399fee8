"""Named architectures: what a config is called by those who know it."""

from __future__ import annotations

import difflib

from stemma.errors import ConfigError
from stemma.models.initialization import InitConfig
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    MLPConfig,
    RMSNormConfig,
    RotaryConfig,
)


def gpt2(d_model: int, n_layers: int, n_heads: int) -> TransformerConfig:
    """GPT-2: learned positions, LayerNorm before each sublayer, tanh-GELU, biases, a tied head.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2.
    """
    return TransformerConfig(
        vocab_size=50257,
        context_length=1024,
        d_model=d_model,
        n_layers=n_layers,
        attention=AttentionConfig(n_heads=n_heads, dropout=0.1),
        dropout=0.1,
    )


def gpt_nano() -> TransformerConfig:
    """minGPT's smallest model, in the size that sorts six letters out of three."""
    return TransformerConfig(
        vocab_size=3,
        context_length=11,
        d_model=48,
        n_layers=3,
        attention=AttentionConfig(n_heads=3, dropout=0.1),
        feedforward=MLPConfig(activation="gelu_tanh"),
        tie_embeddings=False,
        dropout=0.1,
    )


def quickstart() -> TransformerConfig:
    """A small model of Qwen3's shape for minutes on a CPU.

    Rotary positions, RMSNorm also of queries and keys, SwiGLU, no biases, an untied head; blocks
    and head start at zero, so that the first gradients are those of the embeddings' scale.
    """
    return TransformerConfig(
        vocab_size=2048,
        context_length=128,
        d_model=256,
        n_layers=4,
        attention=AttentionConfig(n_heads=4, bias=False, qk_norm=RMSNormConfig(eps=1e-6)),
        feedforward=GatedMLPConfig(d_ff=704),
        norm=RMSNormConfig(eps=1e-6),
        position=RotaryConfig(theta=10_000.0),
        tie_embeddings=False,
        init=InitConfig(std="fan_in", embedding_std=1.0, residual="zero", head="zero"),
    )


PRESETS = {
    "gpt-nano": gpt_nano,
    "gpt2-large": lambda: gpt2(d_model=1280, n_layers=36, n_heads=20),
    "gpt2-medium": lambda: gpt2(d_model=1024, n_layers=24, n_heads=16),
    "gpt2-small": lambda: gpt2(d_model=768, n_layers=12, n_heads=12),
    "gpt2-xl": lambda: gpt2(d_model=1600, n_layers=48, n_heads=25),
    "quickstart": quickstart,
}


def preset(name: str) -> TransformerConfig:
    """The architecture of that name.

    Raises:
        ConfigError: if there is none; the message holds the nearest name.
    """
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        raise ConfigError(
            f"no preset {name!r}",
            cure=f"Did you mean {nearest[0]!r}?"
            if nearest
            else f"There are: {', '.join(PRESETS)}.",
        )
    return PRESETS[name]()
