"""What the tests of all checkpoint families do: the same weights here and in `transformers`."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from stemma.models import Transformer, TransformerConfig
from stemma.models.family import Family

TOLERANCE = 1e-4


def random_model(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Every parameter is random: gains and biases too, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.3 * noise)
    return model.eval()


def random_ids(config: TransformerConfig, seed: int = 1, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, config.context_length), generator=generator)


def theirs(family: Family, config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The model of `transformers` with these weights; every one must find its place."""
    config = transformers.AutoConfig.for_model(**config_json)
    model = getattr(transformers, family.architecture)(config).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {family.head} if config.tie_word_embeddings else set()
    assert set(missing) <= tied
    assert not unexpected
    model.tie_weights()
    return model


@torch.no_grad()
def drift(ours: Transformer, other: Any, ids: Tensor) -> tuple[float, float]:
    """Largest difference of a logit, and mean KL divergence (nats) of the predictions."""
    mine, others = ours(ids), other(ids).logits
    p, q = mine.double().log_softmax(-1), others.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return float((mine - others).abs().max()), float(kl)


def assert_parity(family: Family, config: TransformerConfig, seed: int) -> None:
    """Equal logits, and a difference as soon as one part is perturbed."""
    model = random_model(config, seed)
    config_json, tensors = family.to_huggingface(config, model.state_dict())
    other = theirs(family, config_json, tensors)
    ids = random_ids(config, seed)
    difference, kl = drift(model, other, ids)
    assert difference < TOLERANCE
    assert kl < 1e-7
    with torch.no_grad():
        model.blocks[0].attention.v_proj.weight[0] += 1.0
    difference, perturbed = drift(model, other, ids)
    assert difference > 10 * TOLERANCE
    assert perturbed > 10 * abs(kl)


def assert_round_trip(family: Family, config: TransformerConfig, other: Any) -> None:
    """Theirs -> ours -> theirs, bit by bit; and equal logits on the way."""
    saved = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    if other.config.tie_word_embeddings:
        saved.pop(family.head)
    read, state = family.from_huggingface(other.config.to_dict(), saved)
    assert read == config
    model = Transformer(read)
    model.load_state_dict(state, strict=not read.tie_embeddings)
    assert drift(model.eval(), other.eval(), random_ids(read))[0] < TOLERANCE
    config_json, tensors = family.to_huggingface(read, model.state_dict())
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)
    assert family.read_config(config_json) == read
