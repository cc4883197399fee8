"""For the tests of all checkpoint families: the same weights here and in `transformers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from stemma.models import Transformer, TransformerConfig
from stemma.models.family import Family

TOLERANCE = 1e-4


def build_random(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Every parameter is random: gains and biases too, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    middle = 0 if getattr(config.norm, "from_one", False) else 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(middle + 0.3 * noise if "norm" in name else 0.3 * noise)
    return model.eval()


def random_ids(config: TransformerConfig, seed: int = 1, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, config.context_length), generator=generator)


# Families whose modules bear other names than their files, and how they are opened: their grouped
# products of experts refuse odd sizes.
BY_FILES = {name: {"experts_implementation": "eager"} for name in ("mixtral", "qwen3_moe")}


def theirs(family: Family, config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The model of `transformers` with these weights; every one must find its place."""
    if family.model_type in BY_FILES:
        return theirs_by_files(family, config_json, tensors)
    config = transformers.AutoConfig.for_model(**config_json, bos_token_id=None, eos_token_id=None)
    model = getattr(transformers, family.architecture)(config).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {family.head} if config.tie_word_embeddings else set()
    assert set(missing) <= tied
    assert not unexpected
    model.tie_weights()
    return model


def theirs_by_files(family: Family, config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    with TemporaryDirectory() as directory:
        save_file(tensors, Path(directory, "model.safetensors"), metadata={"format": "pt"})
        ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        Path(directory, "config.json").write_text(json.dumps({**config_json, **ends}))
        model, found = getattr(transformers, family.architecture).from_pretrained(
            directory, output_loading_info=True, **BY_FILES[family.model_type]
        )
    assert not any(found.values()), found
    return model.eval()


def their_tensors(family: Family, other: Any) -> dict[str, Tensor]:
    """The tensors of the file that it is saved in."""
    if family.model_type in BY_FILES:
        with TemporaryDirectory() as directory:
            other.save_pretrained(directory)
            return load_file(Path(directory, "model.safetensors"))
    saved = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    if other.config.tie_word_embeddings:
        saved.pop(family.head)
    return saved


@torch.no_grad()
def drift(ours: Transformer, other: Any, ids: Tensor) -> tuple[float, float]:
    """Largest difference of a logit, and mean KL divergence (nats) of the predictions."""
    mine, others = ours(ids), other(ids).logits
    p, q = mine.double().log_softmax(-1), others.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return float((mine - others).abs().max()), float(kl)


def check_parity(family: Family, config: TransformerConfig, seed: int) -> None:
    """Equal logits from equal weights."""
    model = build_random(config, seed)
    other = theirs(family, *family.to_huggingface(config, model.state_dict()))
    difference, kl = drift(model, other, random_ids(config, seed))
    assert difference < TOLERANCE
    assert kl < 1e-7


def check_sensitivity(family: Family, config: TransformerConfig) -> None:
    """A change of any one parameter shows in the logits and in the KL divergence.

    All but the keys' bias without rotation: it adds the same to every score of a row.
    """
    model = build_random(config)
    other = theirs(family, *family.to_huggingface(config, model.state_dict()))
    generator = torch.Generator().manual_seed(9)
    ids = random_ids(config)
    for name, parameter in model.named_parameters():
        if name.endswith("k_proj.bias") and model.whole.rotary is None:
            continue
        kept = parameter.data.clone()
        parameter.data += torch.randn(kept.shape, generator=generator)
        difference, kl = drift(model, other, ids)
        assert difference > 10 * TOLERANCE, name
        assert kl > 1e-6, name
        parameter.data = kept
    assert drift(model, other, ids)[0] < TOLERANCE


def check_round_trip(family: Family, config: TransformerConfig, other: Any) -> None:
    """Theirs -> ours -> theirs, bit by bit; and equal logits on the way."""
    saved = their_tensors(family, other)
    read, state = family.from_huggingface(other.config.to_dict(), saved)
    assert read == config
    model = Transformer(read)
    model.load_state_dict(state, strict=not read.tie_embeddings)
    assert drift(model.eval(), other.eval(), random_ids(read))[0] < TOLERANCE
    config_json, tensors = family.to_huggingface(read, model.state_dict())
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)
    assert family.read_config(config_json) == read


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Transformer]:
    return build_random


@pytest.fixture(scope="session")
def assert_parity() -> Callable[[Family, TransformerConfig, int], None]:
    return check_parity


@pytest.fixture(scope="session")
def assert_sensitivity() -> Callable[[Family, TransformerConfig], None]:
    return check_sensitivity


@pytest.fixture(scope="session")
def assert_round_trip() -> Callable[[Family, TransformerConfig, Any], None]:
    return check_round_trip
