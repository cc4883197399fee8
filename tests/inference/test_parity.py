"""Greedy text is that of `transformers`, from the directory that both open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import stemma
from stemma.hub import save_model
from stemma.inference import SamplingConfig, generate_ids
from stemma.models import Transformer, TransformerConfig
from stemma.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
GPT2: dict[str, Any] = {"attention": {"n_heads": 4}}
QWEN3: dict[str, Any] = {
    "attention": {"n_heads": 4, "n_kv_heads": 2, "bias": False, "qk_norm": {"kind": "rms_norm"}},
    "feedforward": {"kind": "gated", "d_ff": 48},
    "norm": {"kind": "rms_norm"},
    "position": {"kind": "rotary"},
    "tie_embeddings": False,
}


@pytest.fixture(params=[GPT2, QWEN3], ids=["gpt2", "qwen3"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    sizes = {"vocab_size": BYTES.vocab_size, "context_length": 64, "d_model": 32, "n_layers": 2}
    model = Transformer(TransformerConfig.parse({**sizes, **request.param}), seed=3)
    weights = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=weights))
    return save_model(model, BYTES, tmp_path / "model")


@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_text_is_that_of_transformers(saved: Path, penalty: float) -> None:
    ours, _ = stemma.load(saved)
    theirs = AutoModelForCausalLM.from_pretrained(saved).eval()
    prompt = list(b"ROMEO:")
    wanted = theirs.generate(
        torch.tensor([prompt]),
        max_new_tokens=50,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=None,
        pad_token_id=0,
    )
    rules = SamplingConfig(temperature=0, repetition_penalty=penalty)
    ids = list(generate_ids(ours, prompt, max_new_tokens=50, sampling=rules))
    assert ids == wanted[0, len(prompt) :].tolist()
    assert len(set(ids)) > 2


def test_generate_opens_a_path(saved: Path) -> None:
    generation = stemma.generate(saved, "ROMEO:", max_new_tokens=20, seed=1, top_k=5)
    assert generation == stemma.generate(str(saved), "ROMEO:", max_new_tokens=20, seed=1, top_k=5)
    assert len(generation.ids) <= 20
