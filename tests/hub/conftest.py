"""Small random models of every family, with a tokenizer that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stemma.hub import save_model
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig, RotaryConfig
from stemma.tokenizers import ByteTokenizer, Tokenizer

NORM = RMSNormConfig(eps=1e-5)
SIZE: dict[str, Any] = {"vocab_size": 260, "context_length": 48, "d_model": 24, "n_layers": 2}
LLAMA_SHAPE: dict[str, Any] = {
    **SIZE,
    "feedforward": GatedMLPConfig(d_ff=40),
    "norm": NORM,
    "position": RotaryConfig(theta=20_000.0),
}
GROUPED = AttentionConfig(n_heads=4, n_kv_heads=2, d_head=6, bias=False)
CONFIGS = {
    "gpt2": TransformerConfig(**SIZE, attention=AttentionConfig(n_heads=4)),
    "gpt2-untied": TransformerConfig(
        **SIZE, attention=AttentionConfig(n_heads=3), tie_embeddings=False
    ),
    "llama": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED, tie_embeddings=False),
    "llama-tied": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED),
    "qwen3": TransformerConfig(
        **LLAMA_SHAPE, attention=GROUPED.replace(qk_norm=NORM), tie_embeddings=False
    ),
    "qwen3-tied": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED.replace(qk_norm=NORM)),
}


def build(name: str) -> Transformer:
    """Every parameter random, large enough that greedy choices are clear."""
    generator = torch.Generator().manual_seed(7)
    model = Transformer(CONFIGS[name])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in key else 0.3 * noise)
    return model.eval()


@pytest.fixture(params=sorted(CONFIGS))
def model(request: pytest.FixtureRequest) -> Transformer:
    return build(request.param)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return ByteTokenizer()


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A directory with a small GPT-2."""
    return save_model(build("gpt2"), tokenizer, tmp_path / "model")


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(260, (2, 48), generator=torch.Generator().manual_seed(2))
