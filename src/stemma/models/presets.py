"""Named architectures: what a config is called by those who know it.

Each is a point in the space of `TransformerConfig`: numbers and parts, and no code of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Literal

from stemma.errors import ConfigError
from stemma.models.initialization import InitConfig
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    Llama3ScalingConfig,
    MaskedHeadConfig,
    MLPConfig,
    RMSNormConfig,
    RotaryConfig,
)


def gpt1() -> TransformerConfig:
    """GPT-1: GPT-2's parts, the norms after the sublayers.

    Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training".
    """
    return TransformerConfig(
        vocab_size=40478,
        context_length=512,
        d_model=768,
        n_layers=12,
        attention=AttentionConfig(n_heads=12, dropout=0.1),
        placement="post",
        dropout=0.1,
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


def bert(d_model: int, n_layers: int, n_heads: int) -> TransformerConfig:
    """BERT with its masked head: an encoder, the norms after the sublayers, segments.

    Devlin et al. 2018, arXiv:1810.04805, section 3.
    """
    norm = LayerNormConfig(eps=1e-12)
    return TransformerConfig(
        vocab_size=30522,
        context_length=512,
        d_model=d_model,
        n_layers=n_layers,
        attention=AttentionConfig(n_heads=n_heads, dropout=0.1),
        feedforward=MLPConfig(activation="gelu"),
        norm=norm,
        placement="post",
        causal=False,
        head=MaskedHeadConfig(activation="gelu", norm=norm),
        embedding_norm=True,
        n_segments=2,
        dropout=0.1,
    )


def llama(
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_ff: int,
    *,
    vocab_size: int,
    context_length: int,
    position: RotaryConfig,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    bias: bool | Literal["qkv"] = False,
    eps: float = 1e-5,
    qk_norm: bool = False,
    window: int | None = None,
    tied: bool = False,
) -> TransformerConfig:
    """Llama and all of its shape: RMSNorm first, rotary positions, SwiGLU, no biases.

    Touvron et al. 2023, arXiv:2302.13971 and arXiv:2307.09288; Grattafiori et al. 2024,
    arXiv:2407.21783. SmolLM2: Ben Allal et al. 2025, arXiv:2502.02737. With a window Mistral (Jiang
    et al. 2023, arXiv:2310.06825), with biases Qwen2.5 (Yang et al. 2024, arXiv:2412.15115), with
    normed queries and keys Qwen3 (Yang et al. 2025, arXiv:2505.09388).
    """
    norm = RMSNormConfig(eps=eps)
    return TransformerConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        n_layers=n_layers,
        attention=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            bias=bias,
            qk_norm=norm if qk_norm else None,
        ),
        feedforward=GatedMLPConfig(d_ff=d_ff),
        norm=norm,
        position=position,
        local=LocalLayersConfig(window=window) if window else None,
        tie_embeddings=tied,
    )


def llama32(d_model: int, n_layers: int, n_heads: int) -> TransformerConfig:
    """Llama 3.2: rotations stretched from 8,192 positions to 131,072."""
    scaling = Llama3ScalingConfig(
        factor=32.0, original_context=8192, low_frequency=1.0, high_frequency=4.0
    )
    return llama(
        d_model,
        n_layers,
        n_heads,
        8192,
        vocab_size=128_256,
        context_length=131_072,
        position=RotaryConfig(theta=500_000.0, scaling=scaling),
        n_kv_heads=8,
        tied=True,
    )


def smollm2(
    d_model: int, n_layers: int, n_heads: int, *, n_kv_heads: int, d_ff: int, theta: float
) -> TransformerConfig:
    """SmolLM2: Llama's shape, tied; Ben Allal et al. 2025, arXiv:2502.02737."""
    return llama(
        d_model,
        n_layers,
        n_heads,
        d_ff,
        vocab_size=49_152,
        context_length=8192,
        position=RotaryConfig(theta=theta),
        n_kv_heads=n_kv_heads,
        tied=True,
    )


def gemma3(d_model: int, n_layers: int, n_heads: int, d_ff: int, window: int) -> TransformerConfig:
    """Gemma 3: norms on both sides, five layers with a window to one that sees everything.

    Gemma Team 2025, arXiv:2503.19786, section 2.
    """
    norm = RMSNormConfig(from_one=True)
    return TransformerConfig(
        vocab_size=262_144,
        context_length=32_768,
        d_model=d_model,
        n_layers=n_layers,
        attention=AttentionConfig(
            n_heads=n_heads, n_kv_heads=1, d_head=256, bias=False, qk_norm=norm
        ),
        feedforward=GatedMLPConfig(d_ff=d_ff, activation="gelu_tanh"),
        norm=norm,
        position=RotaryConfig(theta=1_000_000.0),
        placement="sandwich",
        local=LocalLayersConfig(window=window, global_every=6, position=RotaryConfig()),
        scale_embeddings=True,
    )


PRESETS: dict[str, Callable[[], TransformerConfig]] = {
    "bert-base": lambda: bert(768, 12, 12),
    "bert-large": lambda: bert(1024, 24, 16),
    "gemma3-1b": lambda: gemma3(1152, 26, 4, 6912, window=512),
    "gemma3-270m": lambda: gemma3(640, 18, 4, 2048, window=512),
    "gpt-nano": gpt_nano,
    "gpt1": gpt1,
    "gpt2-large": lambda: gpt2(d_model=1280, n_layers=36, n_heads=20),
    "gpt2-medium": lambda: gpt2(d_model=1024, n_layers=24, n_heads=16),
    "gpt2-small": lambda: gpt2(d_model=768, n_layers=12, n_heads=12),
    "gpt2-xl": lambda: gpt2(d_model=1600, n_layers=48, n_heads=25),
    "llama2-7b": lambda: llama(
        4096, 32, 32, 11008, vocab_size=32_000, context_length=4096, position=RotaryConfig()
    ),
    "llama3-8b": lambda: llama(
        4096,
        32,
        32,
        14336,
        vocab_size=128_256,
        context_length=8192,
        position=RotaryConfig(theta=500_000.0),
        n_kv_heads=8,
    ),
    "llama3.2-1b": lambda: llama32(2048, 16, 32),
    "llama3.2-3b": lambda: llama32(3072, 28, 24),
    "mistral-7b": lambda: llama(
        4096,
        32,
        32,
        14336,
        vocab_size=32_000,
        context_length=32_768,
        position=RotaryConfig(),
        n_kv_heads=8,
        window=4096,
    ),
    "quickstart": quickstart,
    "qwen2.5-0.5b": lambda: llama(
        896,
        24,
        14,
        4864,
        vocab_size=151_936,
        context_length=32_768,
        position=RotaryConfig(theta=1_000_000.0),
        n_kv_heads=2,
        bias="qkv",
        eps=1e-6,
        tied=True,
    ),
    "qwen3-0.6b": lambda: llama(
        1024,
        28,
        16,
        3072,
        vocab_size=151_936,
        context_length=40_960,
        position=RotaryConfig(theta=1_000_000.0),
        n_kv_heads=8,
        d_head=128,
        eps=1e-6,
        qk_norm=True,
        tied=True,
    ),
    "smollm2-1.7b": lambda: smollm2(2048, 24, 32, n_kv_heads=32, d_ff=8192, theta=130_000.0),
    "smollm2-135m": lambda: smollm2(576, 30, 9, n_kv_heads=3, d_ff=1536, theta=100_000.0),
    "smollm2-360m": lambda: smollm2(960, 32, 15, n_kv_heads=5, d_ff=2560, theta=100_000.0),
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
