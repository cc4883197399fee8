"""Presets: exact sizes, and a real GPT that reproduces every activation and sorts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stemma.errors import ConfigError
from stemma.models import PRESETS, Transformer, preset
from stemma.models.families import family_for
from stemma.nn import attend_explicitly

Mirror = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "n_parameters", "n_outside_embeddings"),
    [
        # Outside: 12 d^2 + 13 d for each layer, 2 d for the last norm.
        ("gpt2-small", 124_439_808, 12 * (12 * 768**2 + 13 * 768) + 2 * 768),
        ("gpt2-medium", 354_823_168, 24 * (12 * 1024**2 + 13 * 1024) + 2 * 1024),
        ("gpt2-large", 774_030_080, 36 * (12 * 1280**2 + 13 * 1280) + 2 * 1280),
        ("gpt2-xl", 1_557_611_200, 48 * (12 * 1600**2 + 13 * 1600) + 2 * 1600),
        # Untied 3 x 48; GPT-2's formula otherwise.
        ("gpt-nano", 85_728, 3 * (12 * 48**2 + 13 * 48) + 2 * 48),
        (
            "quickstart",
            2 * 2048 * 256 + 4 * (4 * 256**2 + 3 * 256 * 704 + 2 * 256 + 2 * 64) + 256,
            4 * (4 * 256**2 + 3 * 256 * 704 + 2 * 256 + 2 * 64) + 256,
        ),
    ],
)
def test_exact_parameter_counts(name: str, n_parameters: int, n_outside_embeddings: int) -> None:
    with torch.device("meta"):
        model = Transformer(preset(name))
    assert model.n_parameters() == n_parameters
    assert model.n_parameters(embeddings=False) == n_outside_embeddings


# As their authors, or the files on the Hub, count them.
PUBLISHED = {
    "bert-base": ("bert", 109_514_298),
    "bert-large": ("bert", 335_174_458),
    "gemma3-1b": ("gemma3_text", 999_885_952),
    "gemma3-270m": ("gemma3_text", 268_098_176),
    "gpt1": ("openai-gpt", 116_534_784),
    "llama2-7b": ("llama", 6_738_415_616),
    "llama3-8b": ("llama", 8_030_261_248),
    "llama3.2-1b": ("llama", 1_235_814_400),
    "llama3.2-3b": ("llama", 3_212_749_824),
    "mistral-7b": ("mistral", 7_241_732_096),
    "qwen2.5-0.5b": ("qwen2", 494_032_768),
    "qwen3-0.6b": ("qwen3", 596_049_920),
    "smollm2-1.7b": ("llama", 1_711_376_384),
    "smollm2-135m": ("llama", 134_515_008),
    "smollm2-360m": ("llama", 361_821_120),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_and_families(name: str) -> None:
    model_type, n_parameters = PUBLISHED[name]
    with torch.device("meta"):
        assert Transformer(preset(name)).n_parameters() == n_parameters
    assert family_for(preset(name)).model_type == model_type


def test_every_preset_survives_a_round_trip() -> None:
    for name in PRESETS:
        config = preset(name)
        assert type(config).parse(json.loads(config.model_dump_json())) == config


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'gpt2-smal'\nDid you mean 'gpt2-small'"):
        preset("gpt2-smal")
    with pytest.raises(ConfigError, match="There are: bert-base, bert-large"):
        preset("bloom")


def array(stored: dict[str, Any]) -> Tensor:
    numbers = np.frombuffer(base64.b64decode(stored["data"]), dtype="<f4")
    return torch.from_numpy(numbers.copy()).view(stored["shape"])


@pytest.fixture(scope="module")
def sorter(mirror: Mirror) -> Transformer:
    """GPT nano with the weights of minGPT's sorting demo, in the layout of its linear maps."""
    stored = json.loads(mirror("weights/gpt-nano-sort/gpt-nano-sort-model.json").read_text())
    theirs = {name: array(value) for name, value in stored.items() if name != "config"}
    ours = {
        "embed.tokens.weight": theirs["transformer.wte.weight"],
        "embed.positions.weight": theirs["transformer.wpe.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    names = {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "attn.c_proj": "attention.o_proj",
        "mlp.c_fc": "feedforward.up_proj",
        "mlp.c_proj": "feedforward.down_proj",
    }
    for kind in ("weight", "bias"):
        ours[f"final_norm.{kind}"] = theirs[f"transformer.ln_f.{kind}"]
        for i in range(3):
            for their, our in names.items():
                ours[f"blocks.{i}.{our}.{kind}"] = theirs[f"transformer.h.{i}.{their}.{kind}"]
            q_k_v = theirs[f"transformer.h.{i}.attn.c_attn.{kind}"].chunk(3)
            for part, value in zip("qkv", q_k_v, strict=True):
                ours[f"blocks.{i}.attention.{part}_proj.{kind}"] = value
    model = Transformer(preset("gpt-nano")).eval().requires_grad_(False)
    model.load_state_dict(ours)
    return model


@pytest.fixture(scope="module")
def partials(mirror: Mirror) -> dict[str, Tensor]:
    path = mirror("weights/gpt-nano-sort/gpt-nano-sort-t0-partials.json")
    stored = json.loads(path.read_text())
    return {name: array(value) for name, value in stored.items() if name != "config"}


def activations(model: Transformer, ids: Tensor) -> dict[str, Tensor]:
    """Every intermediate result under the name it has in the file."""
    found: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: object, inputs: object, output: Tensor) -> None:
            found.setdefault(name, output)

        return hook

    first = model.blocks[0]
    parts = {
        "tok_emb": model.embed.tokens,
        "pos_emb": model.embed.positions,
        "x": model.embed,
        "ln1": first.norm1,
        "yProj": first.attention.o_proj,
        "ln2": first.norm2,
        "fc": first.feedforward.up_proj,
        "mlp": first.feedforward,
        "block0": first,
        "block1": model.blocks[1],
        "block2": model.blocks[2],
        "ln_f": model.final_norm,
        "lm_head": model.head,
    }
    handles = [part.register_forward_hook(record(name)) for name, part in parts.items()]
    found["probs"] = model.next_log_probs(ids).exp()
    for handle in handles:
        handle.remove()
    q, k, v = first.attention.project(found["ln1"])
    attended, weights = attend_explicitly(q, k, v)
    found |= {"q": q, "k": k, "v": v, "attSm": weights, "y": attended.transpose(1, 2).flatten(2)}
    found["gelu"] = first.feedforward.activation(found["fc"])
    found["attnResid"] = found["x"] + found["yProj"]
    found["mlpResid"] = found["block0"]
    return found


def test_every_intermediate_activation(sorter: Transformer, partials: dict[str, Tensor]) -> None:
    ids = partials["idx"].long()
    found = activations(sorter, ids)
    compared = partials.keys() - {"idx", "att", "qkv"}
    assert compared == found.keys()
    for name in sorted(compared):
        difference = (found[name] - partials[name].view(partials[name].shape)).abs().max()
        assert difference < 1e-5, f"{name}: {float(difference):.2e}"
    qkv = torch.cat([found[name].transpose(1, 2).flatten(2) for name in "qkv"], dim=-1)
    torch.testing.assert_close(qkv, partials["qkv"], atol=1e-5, rtol=0)


def test_the_parity_can_fail(sorter: Transformer, partials: dict[str, Tensor]) -> None:
    weight = sorter.blocks[0].attention.k_proj.weight
    weight[3, 5] += 0.01
    found = activations(sorter, partials["idx"].long())
    weight[3, 5] -= 0.01
    assert (found["ln1"] - partials["ln1"]).abs().max() < 1e-5
    assert (found["k"] - partials["k"]).abs().max() > 1e-3
    assert (found["lm_head"] - partials["lm_head"]).abs().max() > 1e-5


def test_attention_weights_are_those_of_the_file(
    sorter: Transformer, partials: dict[str, Tensor]
) -> None:
    layers = sorter.attention_weights(partials["idx"].long())
    assert len(layers) == 3
    torch.testing.assert_close(layers[0], partials["attSm"], atol=1e-5, rtol=0)


def test_it_sorts_500_of_500(sorter: Transformer) -> None:
    everything = torch.tensor(list(product(range(3), repeat=6)))
    chosen = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))[:500]
    ids = letters = everything[chosen]
    with torch.inference_mode():
        for _ in range(6):
            ids = torch.cat([ids, sorter(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert int((ids[:, 6:] == letters.sort(-1).values).all(-1).sum()) == 500
