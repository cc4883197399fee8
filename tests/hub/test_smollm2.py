"""A real instruct model: SmolLM2-135M as transformers reads it from the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from stemma.hub import load
from stemma.inference import SamplingConfig, generate_ids
from stemma.models import Transformer
from stemma.tokenizers import Tokenizer


@pytest.fixture(scope="module")
def both(smollm2: Path) -> tuple[Transformer, Tokenizer, Any]:
    model, tokenizer = load(smollm2)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    ).eval()
    return model, tokenizer, theirs


PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village,",
    "def fibonacci(n):\n    ",
    "Water boils at",
    "The three primary colours are",
    "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
    "1, 2, 3, 4,",
    "Zwei Dinge erf\u00fcllen das Gem\u00fct",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
    "import numpy as np\n",
    "Q: What is the largest planet?\nA:",
    "To be, or not to be,",
    "The derivative of x^2 is",
    "    indented",
    "!!!",
    "A list of fruits:\n- apple\n-",
    "In 1969,",
    "\u6771\u4eac\u306f",
    '{"name": "Ada", "born":',
    "The quick brown fox jumps over the lazy dog. " * 8,
]


@torch.inference_mode()
def apart(model: Transformer, theirs: Any, ids: Tensor) -> tuple[float, float]:
    """Largest difference of a logit, and the mean KL divergence of the predictions in nats."""
    ours, others = model(ids).double(), theirs(ids).logits.double()
    p, q = ours.log_softmax(-1), others.log_softmax(-1)
    return float((ours - others).abs().max()), float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.slow
def test_smollm2_is_that_of_transformers_on_twenty_prompts(
    both: tuple[Transformer, Tokenizer, Any],
) -> None:
    model, tokenizer, theirs = both
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt, allowed_special="all").tolist()]).long()
        difference, divergence = apart(model, theirs, ids)
        assert difference < 1e-3
        assert divergence < 1e-8
        others = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
        )
        chosen = list(
            generate_ids(
                model,
                ids[0],
                max_new_tokens=16,
                sampling=SamplingConfig(temperature=0),
                stop_ids={tokenizer.special_tokens["<|im_end|>"]},
            )
        )
        assert chosen == others[0, ids.shape[1] :].tolist()
        if prompt == PROMPTS[0]:
            assert tokenizer.decode(chosen).startswith(" Paris.")


@pytest.mark.slow
def test_smollm2_is_that_of_transformers_in_contexts_of_2000_tokens(
    both: tuple[Transformer, Tokenizer, Any], mirror: Callable[[str], Path]
) -> None:
    model, tokenizer, theirs = both
    text = mirror("text/tinyshakespeare.txt").read_text()
    ids = torch.from_numpy(tokenizer.encode(text[:20_000])[:2000]).long()[None]
    difference, divergence = apart(model, theirs, ids)
    assert difference < 2e-3
    assert divergence < 1e-8
    # And the comparison can fail: the rotations of a head, one part in a hundred off.
    model.whole.rotary.theta *= 1.01
    try:
        assert apart(model, theirs, ids)[1] > 1e-6
    finally:
        model.whole.rotary.theta /= 1.01
