"""Small models with weights large enough to have opinions."""

from __future__ import annotations

from typing import Any

import torch

from stemma.models import Transformer, TransformerConfig


def tiny_model(
    vocab_size: int = 40, context_length: int = 48, seed: int = 1, **values: Any
) -> Transformer:
    """Two layers of grouped heads with rotary positions."""
    config = {
        "vocab_size": vocab_size,
        "context_length": context_length,
        "d_model": 16,
        "n_layers": 2,
        "attention": {"n_heads": 4, "n_kv_heads": 2},
        "position": {"kind": "rotary"},
        **values,
    }
    model = Transformer(TransformerConfig.parse(config), seed=seed).eval()
    weights = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=weights))
    return model
