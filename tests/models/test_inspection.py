"""What a model costs, counted from its config: by hand, by torch's own counter, by its cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stemma.models import PRESETS, Transformer, TransformerConfig, inspect_config, preset

TINY: dict[str, Any] = {
    "vocab_size": 11,
    "context_length": 16,
    "d_model": 8,
    "n_layers": 3,
    "attention": {"n_heads": 2},
}


def config_of(**values: Any) -> TransformerConfig:
    return TransformerConfig.parse({**TINY, **values})


def test_gpt2_by_hand() -> None:
    found = inspect_config(preset("gpt2-small"))
    assert found.n_parameters == found.n_active == 124_439_808
    assert found.n_embedding == (50257 + 1024) * 768
    # 12 matrices of 768 x 768 in each of 12 layers, and the head.
    multiplied = 12 * 12 * 768**2 + 50257 * 768
    assert found.n_multiplied == multiplied
    assert found.flops_per_token(1000) == 2 * multiplied + 12 * 4 * 768 * 1000
    assert found.cache_bytes(1, "bfloat16") == 2 * 12 * 768 * 2
    assert found.memory("int4") == 62_219_904


configs = st.fixed_dictionaries(
    {
        "attention": st.sampled_from(
            [{"n_heads": 2}, {"n_heads": 4, "n_kv_heads": 2}, {"n_heads": 2, "d_head": 6}]
        ),
        "feedforward": st.sampled_from([{"kind": "mlp"}, {"kind": "gated", "d_ff": 12}]),
        "position": st.sampled_from([{"kind": "learned"}, {"kind": "rotary"}]),
        "tie_embeddings": st.booleans(),
        "n_layers": st.integers(1, 4),
    }
)


LATENT = {"d_latent": 5, "d_rotary": 2, "d_value": 7}
latents = st.fixed_dictionaries(
    {
        "attention": st.builds(
            lambda latent: {"n_heads": 2, "d_head": 6, "bias": False, "latent": latent},
            st.sampled_from([LATENT, {**LATENT, "d_query_latent": 3}, {**LATENT, "d_value": None}]),
        ),
        "position": st.just({"kind": "rotary"}),
        "n_layers": st.integers(1, 3),
    }
)
tables = st.fixed_dictionaries(
    {
        "position": st.just({"kind": "relative_buckets"}),
        "causal": st.booleans(),
        "n_layers": st.integers(1, 3),
    }
)


@settings(max_examples=16)
@given(configs | latents | tables)
def test_flops_are_those_that_torch_counts(values: dict[str, Any]) -> None:
    """A whole text of T positions: the counter takes each query to see all T."""
    config = config_of(**values)
    model, n = Transformer(config).eval(), 7
    # The fused kernel is not counted on a CPU; the plain one is matrix products.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, n, dtype=torch.int64))
    assert counter.get_total_flops() == n * inspect_config(config).flops_per_token(n)


@settings(max_examples=10)
@given(configs)
def test_counts_are_those_of_the_model_and_of_its_cache(values: dict[str, Any]) -> None:
    config = config_of(**values)
    model, found = Transformer(config), inspect_config(config)
    assert found.n_parameters == model.n_parameters() == found.tree.n_parameters
    assert found.n_parameters - found.n_embedding == model.n_parameters(embeddings=False)
    assert found.cache_bytes(16, "float32") == model.new_cache(1).n_bytes


def test_experts_that_a_token_does_not_meet_are_not_active() -> None:
    mixture = {"kind": "moe", "d_ff": 4, "n_experts": 8, "n_active": 2}
    config = config_of(feedforward=mixture)
    found = inspect_config(config)
    experts = sum(p.numel() for p in Transformer(config).parameters() if p.ndim == 3)
    assert experts == 3 * 8 * 3 * 8 * 4  # layers, experts, matrices, d_model, d_ff
    assert found.n_parameters - found.n_active == experts * 6 // 8


def test_windows_bound_what_is_seen() -> None:
    whole = inspect_config(config_of(position={"kind": "rotary"}))
    local = inspect_config(
        config_of(position={"kind": "rotary"}, local={"window": 4, "global_every": 3})
    )
    assert local.flops_per_token(3) == whole.flops_per_token(3)
    assert whole.flops_per_token(16) - local.flops_per_token(16) == 2 * 4 * 8 * (16 - 4)


def test_windows_reach_to_both_sides_where_later_positions_are_seen() -> None:
    values = {"position": {"kind": "rotary"}, "causal": False}
    whole = inspect_config(config_of(**values))
    near = inspect_config(config_of(**values, local={"window": 3, "global_every": 3}))
    for n, seen in ((4, 4), (5, 5), (6, 5), (16, 5)):  # 2 x 3 - 1
        left_out = 2 * 4 * 8 * (n - seen)  # two layers, heads x d_head = 8
        assert whole.flops_per_token(n) - near.flops_per_token(n) == left_out
    # The middle one of eleven positions, by the mask of the layer itself.
    everyone = torch.arange(11)
    mask = Transformer(near.config).local(everyone, everyone).mask  # type: ignore[misc]
    assert mask.sum(-1).max() == 5


def test_latents_by_hand() -> None:
    attention = {"n_heads": 2, "d_head": 6, "bias": False, "latent": LATENT}
    config = config_of(attention=attention, position={"kind": "rotary"}, n_layers=1)
    # q: 2 heads of 6 + 2; latent, rotated key; keys and values from the latent; out.
    attending = 8 * 16 + 8 * 5 + 8 * 2 + 5 * 12 + 5 * 14 + 14 * 8
    found = inspect_config(config)
    assert found.n_multiplied == attending + 2 * 8 * 32 + 8 * 11
    assert found.flops_per_token(9) - 2 * found.n_multiplied == 2 * 2 * (8 + 7) * 9


def test_buckets_are_looked_up() -> None:
    plain = inspect_config(config_of(position={"kind": "rotary"}))
    buckets = inspect_config(config_of(position={"kind": "relative_buckets"}))
    assert buckets.n_parameters == plain.n_parameters + 32 * 2
    assert buckets.n_multiplied == plain.n_multiplied


def test_an_encoder_keeps_nothing() -> None:
    assert inspect_config(preset("bert-base")).kv_numbers == 0


def test_the_tree_folds_layers_that_are_alike() -> None:
    tree = inspect_config(config_of()).tree
    blocks = next(part for part in tree.parts if part.name == "blocks")
    (block,) = blocks.parts
    assert (block.name, block.count) == ("0-2", 3)
    assert blocks.n_parameters == 3 * block.n_parameters
    assert tree.parts[-1].tied
    q = block.parts[1].parts[0]
    assert (q.name, q.shapes) == ("q_proj", {"weight": (8, 8), "bias": (8,)})


@pytest.mark.parametrize("name", PRESETS)
def test_every_architecture_is_inspected_without_its_memory(name: str) -> None:
    found = inspect_config(preset(name))
    assert found.tree.n_parameters == found.n_parameters
    assert found.as_dict()["parameters"] == found.n_parameters
