"""Our own shapes in transformers: loading, padded batches, its cache, its beams, its losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F

from stemma.errors import ConfigError, ModelError
from stemma.hub import auto_model, load
from stemma.hub.model_directory import save_model
from stemma.models import LocalLayersConfig, Transformer, TransformerConfig
from stemma.nn import AlibiConfig, AttentionConfig, NoHeadConfig, RotaryConfig
from stemma.tokenizers import ByteTokenizer

POSITIONS = {"alibi": AlibiConfig(), "rotary": RotaryConfig()}


def odd(position: Any, **changes: Any) -> Transformer:
    """With sinks and a window: a shape that no family has."""
    values: dict[str, Any] = {
        "vocab_size": 259,
        "context_length": 32,
        "d_model": 16,
        "n_layers": 3,
        "attention": AttentionConfig(n_heads=2, n_kv_heads=1, sinks=True),
        "position": position,
        "local": LocalLayersConfig(window=4, global_every=2),
        **changes,
    }
    model = TransformerConfig(**values).build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(params=list(POSITIONS))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Transformer, Path]:
    model = odd(POSITIONS[request.param])
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    return model, save_model(model, tokenizer, tmp_path / "odd")


def opened(directory: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory, **options).eval()


def test_it_is_the_same_model_there_and_back(
    saved: tuple[Transformer, Path], tmp_path: Path
) -> None:
    model, directory = saved
    other = opened(directory)
    ids = torch.randint(257, (2, 20), generator=torch.Generator().manual_seed(1))
    assert other(ids).logits.equal(model(ids))
    other.save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(directory).save_pretrained(tmp_path / "theirs")
    again, _ = load(tmp_path / "theirs")
    assert again.config == model.config
    assert again(ids).equal(model(ids))


def test_its_cache_and_its_beams_change_nothing(saved: tuple[Transformer, Path]) -> None:
    _, directory = saved
    other = opened(directory)
    ids = torch.randint(257, (2, 5), generator=torch.Generator().manual_seed(3))
    for options in ({}, {"num_beams": 3}):
        texts = [
            other.generate(
                ids,
                max_new_tokens=12,
                do_sample=False,
                use_cache=cached,
                eos_token_id=None,
                pad_token_id=0,
                **options,
            )
            for cached in (True, False)
        ]
        assert texts[0].tolist() == texts[1].tolist()


def test_padding_on_the_left_changes_nothing(saved: tuple[Transformer, Path]) -> None:
    _, directory = saved
    other = opened(directory)
    texts = [[5, 6, 7], [9, 10, 11, 12, 13, 14]]
    ids = torch.tensor([[0, 0, 0, *texts[0]], texts[1]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1] * 6])
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for cached in (True, False):
        together = other.generate(ids, attention_mask=mask, use_cache=cached, **options)
        for row, text in zip(together, texts, strict=True):
            alone = other.generate(torch.tensor([text]), use_cache=cached, **options)
            assert row[6:].tolist() == alone[0, len(text) :].tolist()
    logits = other(ids, attention_mask=mask).logits[0, 3:]
    torch.testing.assert_close(logits, other(torch.tensor([texts[0]])).logits[0])


def test_losses_and_gradients_are_ours(saved: tuple[Transformer, Path]) -> None:
    model, directory = saved
    other = opened(directory)
    ids = torch.randint(257, (2, 9), generator=torch.Generator().manual_seed(5))
    labels = ids.clone()
    labels[0, :4] = -100
    loss = other(ids, labels=labels).loss
    ours = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), labels[:, 1:])
    torch.testing.assert_close(loss, ours)
    loss.backward()
    ours.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(other.model.get_parameter(name).grad, parameter.grad)


def test_a_tied_head_stays_tied(saved: tuple[Transformer, Path]) -> None:
    _, directory = saved
    other = opened(directory, dtype=torch.bfloat16)
    assert other.model.head.weight is other.model.embed.tokens.weight
    assert other.dtype == torch.bfloat16
    assert other(torch.tensor([[1, 2]])).logits.dtype == torch.bfloat16


def test_an_encoder_opens_too(tmp_path: Path) -> None:
    encoder = odd(AlibiConfig(), causal=False, head=NoHeadConfig(), tie_embeddings=False)
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    directory = save_model(encoder, tokenizer, tmp_path / "encoder")
    other = transformers.AutoModel.from_pretrained(directory)
    ids = torch.tensor([[1, 2, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    found = other(ids, attention_mask=mask).last_hidden_state[:, :3]
    torch.testing.assert_close(found, encoder.hidden_states(ids[:, :3]))


def test_another_process_needs_one_import_or_trust(saved: tuple[Transformer, Path]) -> None:
    _, directory = saved
    code = (
        "from transformers import AutoModelForCausalLM as A; "
        f"print(type(A.from_pretrained({str(directory)!r}, trust_remote_code=TRUST)).__name__)"
    )
    for trusting, first in (("True", ""), ("False", "import stemma.hub.auto_model; ")):
        done = subprocess.run(
            [sys.executable, "-c", first + code.replace("TRUST", trusting)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "StemmaForCausalLM"
    text = (directory / "README.md").read_text()
    assert "import stemma.hub.auto_model" in text
    assert "NEEDS" not in text


def test_a_mask_of_pairs_is_refused(saved: tuple[Transformer, Path]) -> None:
    other = opened(saved[1])
    with pytest.raises(ModelError, match=r"attention_mask of the shape \(1, 1, 2, 2\)"):
        other(torch.tensor([[1, 2]]), attention_mask=torch.ones(1, 1, 2, 2))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="vocab_size"):
        auto_model.StemmaForCausalLM(auto_model.StemmaConfig())
