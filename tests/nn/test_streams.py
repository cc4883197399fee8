"""Streams beside the residual stream: by hand, written out anew, cached, trained."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stemma.inference import obstacle
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES, family_for, family_of
from stemma.nn import StreamMix, Streams
from stemma.training.memory import apply_activation_checkpointing

BOTH = {"embedding_stream": True, "value_stream": True}
EACH = pytest.mark.parametrize(
    "streams", [BOTH, {"embedding_stream": True}, {"value_stream": True}], ids=str
)


def built(seed: int = 0, **streams: bool) -> Transformer:
    config = TransformerConfig.parse(
        {
            "vocab_size": 19,
            "context_length": 9,
            "d_model": 8,
            "n_layers": 3,
            "attention": {"n_heads": 2, "n_kv_heads": 1},
            "feedforward": {"kind": "gated", "d_ff": 12},
            "norm": {"kind": "rms_norm"},
            **streams,
        }
    )
    model = config.build().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.4 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if "norm" in name else noise)
    return model


def ids(seed: int = 0, length: int = 9) -> Tensor:
    return torch.randint(19, (2, length), generator=torch.Generator().manual_seed(seed))


def test_worked_by_hand() -> None:
    mix = StreamMix(embeddings=True, values=True)
    own, stream = torch.tensor([[[4.0, 8.0]]]), torch.tensor([[[2.0, 0.0]]])
    streams = Streams(embeddings=stream, values=stream)
    assert mix.mix_input(own, streams).tolist() == [[[4.0, 8.0]]]
    assert mix.mix_values(own, streams).tolist() == [[[3.0, 4.0]]]
    mix.embeddings.data = torch.tensor([0.5, 3.0])
    assert mix.mix_input(own, streams).tolist() == [[[8.0, 4.0]]]
    assert mix.mix_input(own, Streams()) is own
    neither = StreamMix(embeddings=False, values=False)
    assert neither.mix_values(own, streams) is own
    assert not list(neither.parameters())


def written_out(model: Transformer, x: Tensor) -> Tensor:
    """The layers once more, from the formulas: nothing of the blocks' own ways is used."""
    first, begin, length = None, x, x.shape[1]
    for block in model.blocks:
        if block.mix.embeddings is not None:
            x = block.mix.embeddings[0] * x + block.mix.embeddings[1] * begin
        h = block.norm1(x)
        part = block.attention
        q = part.q_proj(h).view(2, length, 2, 4).transpose(1, 2)
        k, v = part.k_proj(h).unsqueeze(1), part.v_proj(h).unsqueeze(1)
        first = v if first is None else first
        if block.mix.values is not None:
            v = block.mix.values[0] * v + block.mix.values[1] * first
        scores = (q @ k.mT / math.sqrt(4)).masked_fill(torch.ones(length, length).triu(1) > 0, -1e9)
        x = x + part.o_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        h = block.norm2(x)
        gate, up, down = (getattr(block.feedforward, f"{n}_proj") for n in ("gate", "up", "down"))
        x = x + down(F.silu(gate(h)) * up(h))
    return model.final_norm(x)


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_a_model_is_what_the_formulas_say(streams: dict[str, bool], seed: int) -> None:
    model = built(seed, **streams)
    x = model.embed(ids(seed), torch.arange(9))
    torch.testing.assert_close(model.hidden_states(ids(seed)), written_out(model, x))
    weights = model.attention_weights(ids(seed))
    assert len(weights) == 3
    model.blocks[1].mix.load_state_dict(
        {name: part + 0.5 for name, part in model.blocks[1].mix.state_dict().items()}
    )
    changed = model.attention_weights(ids(seed))
    torch.testing.assert_close(changed[0], weights[0])
    assert (changed[2] - weights[2]).abs().max() > 1e-4


def test_a_model_begins_as_one_without_the_stream_of_embeddings() -> None:
    config = built(embedding_stream=True).config
    plain = config.replace(embedding_stream=False).build(seed=1)
    torch.testing.assert_close(config.build(seed=1)(ids()), plain(ids()))
    halves = config.replace(value_stream=True, n_layers=1).build(seed=1)
    torch.testing.assert_close(halves(ids()), plain.config.replace(n_layers=1).build(seed=1)(ids()))


@EACH
@given(seed=st.integers(0, 99), cut=st.integers(1, 8))
def test_cached_is_uncached(streams: dict[str, bool], seed: int, cut: int) -> None:
    model = built(seed, **streams)
    cache = model.new_cache(2)
    rest = ids(seed)[:, cut:].split(1, dim=1)
    parts = [model(part, cache=cache) for part in (ids(seed)[:, :cut], *rest)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids(seed)), atol=1e-4, rtol=1e-4)


def test_every_share_learns_and_recomputing_changes_nothing() -> None:
    def gradients(recompute: bool) -> dict[str, Tensor]:
        model = built(**BOTH)
        if recompute:
            apply_activation_checkpointing(model)
        model(ids()).square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, recomputed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)
    for i in range(3):
        for part in ("embeddings", "values"):
            assert plain[f"blocks.{i}.mix.{part}"].abs().min() > 0


@EACH
def test_only_our_own_files_hold_them_and_the_engine_leaves_them_alone(
    streams: dict[str, Any],
) -> None:
    model = built(**streams)
    assert family_of(model.config) is None
    family = family_for(model.config)
    assert family not in FAMILIES.values()
    config, state = family.from_huggingface(
        *family.to_huggingface(model.config, model.state_dict())
    )
    again = Transformer(config)
    again.load_state_dict(state, strict=False)
    torch.testing.assert_close(again.eval()(ids()), model(ids()))
    assert "stream" in str(obstacle(model))
