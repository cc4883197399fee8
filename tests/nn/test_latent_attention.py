"""Multi-head latent attention: two forms, the cache of latents, DeepSeek's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ConfigError
from stemma.inference import Batch, ContinuousBatch, SamplingConfig, generate_ids, obstacle
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import family_for, family_of
from stemma.models.inspection import inspect_config
from stemma.nn import AttentionConfig, CacheLayout, KVCache, LatentAttention, Rotary, Sight


def build(seed: int = 0, **values: Any) -> LatentAttention:
    sizes = {"n_heads": 3, "d_latent": 6, "d_head": 5, "d_rotary": 4, "d_value": 7, **values}
    heads = {"n_heads": sizes.pop("n_heads"), "d_head": sizes.pop("d_head"), "bias": False}
    config = AttentionConfig.parse({**heads, "latent": sizes})
    layer = config.build(8).double().requires_grad_(False)
    assert isinstance(layer, LatentAttention)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in layer.named_parameters():
        noise = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(1 + noise if "norm" in name or name == "q_down.1.weight" else noise)
    return layer


def example(seed: int, length: int = 6, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, 8, generator=generator, dtype=torch.float64)


def sight(positions: Tensor, d_rotary: int = 4) -> Sight:
    rotation = Rotary(d_rotary)(positions)
    return Sight(rotation.to(torch.float64))


SIZES = {
    "n_heads": st.integers(1, 3),
    "d_latent": st.integers(1, 9),
    "d_head": st.integers(1, 5),
    "d_rotary": st.sampled_from([2, 4]),
    "d_value": st.none() | st.integers(1, 7),
    "d_query_latent": st.none() | st.integers(1, 6),
}


@given(seed=st.integers(0, 99), sizes=st.fixed_dictionaries(SIZES), length=st.integers(1, 7))
def test_both_forms_are_one(seed: int, sizes: dict[str, Any], length: int) -> None:
    layer = build(seed, **sizes)
    x, seen = example(seed, length), sight(torch.arange(length), sizes["d_rotary"])
    parts = (*layer.queries(x, seen), *layer.latents(x, seen))
    explicit = layer.attend_explicitly(*parts, sight=seen)
    torch.testing.assert_close(layer.attend_absorbed(*parts, sight=seen), explicit)
    torch.testing.assert_close(layer(x, sight=seen), explicit)
    step_by_step, weights = layer.forward_with_weights(x, sight=seen)
    torch.testing.assert_close(step_by_step, explicit, atol=1e-5, rtol=1e-5)
    sums = weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)
    assert (weights.triu(1) == 0).all()


@given(
    seed=st.integers(0, 99),
    d_latent=st.sampled_from([5, 6]),
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=5),
)
def test_cached_is_uncached(seed: int, d_latent: int, cuts: list[int]) -> None:
    layer, length = build(seed, d_latent=d_latent), sum(cuts)
    x = example(seed, length)
    cache = KVCache(CacheLayout(1, 1, layer.cache_size, torch.float64), 2, length)
    found = []
    for part in x.split(cuts, dim=1):
        seen = sight(cache.positions(part.shape[1]))
        found.append(layer(part, sight=seen, cache=cache.layer(0)))
        cache.advance(part.shape[1])
    whole = layer(x, sight=sight(torch.arange(length)))
    torch.testing.assert_close(torch.cat(found, dim=1), whole)


def test_a_position_costs_its_latent_and_its_rotated_key() -> None:
    """DeepSeek-V2: 512 + 64 numbers, where 128 heads of 128 features would keep 32,768."""
    latent = {"d_latent": 512, "d_rotary": 64}
    config = AttentionConfig(n_heads=128, d_head=128, bias=False, latent=latent)
    assert config.cache_shape(5120) == (1, 576 / 2)
    with torch.device("meta"):
        layer = config.build(5120)
    assert isinstance(layer, LatentAttention)
    assert layer.cache_size == 576 / 2


@pytest.mark.parametrize("d_query_latent", [None, 6])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_deepseek(d_query_latent: int | None, seed: int) -> None:
    """Their weights pair neighbouring features of the rotated parts, ours the two halves."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
        DeepseekV3Attention,
        DeepseekV3RotaryEmbedding,
    )

    config = DeepseekV3Config(
        hidden_size=8,
        num_attention_heads=3,
        num_key_value_heads=3,
        q_lora_rank=d_query_latent,
        kv_lora_rank=6,
        qk_nope_head_dim=5,
        qk_rope_head_dim=4,
        v_head_dim=7,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    theirs = DeepseekV3Attention(config, 0).double().eval().requires_grad_(False)
    ours = build(seed, d_query_latent=d_query_latent)
    neighbours = torch.tensor([0, 2, 1, 3])  # half by half -> pair by pair
    q = ours.q_proj.weight.unflatten(0, (3, 9)).clone()
    q[:, 5:] = q[:, 5:][:, neighbours]
    if d_query_latent is None:
        theirs.q_proj.weight.copy_(q.flatten(0, 1))
    else:
        theirs.q_b_proj.weight.copy_(q.flatten(0, 1))
        theirs.q_a_proj.weight.copy_(ours.q_down[0].weight)
        theirs.q_a_layernorm.weight.copy_(ours.q_down[1].weight)
    down = torch.cat([ours.latent_proj.weight, ours.rotary_proj.weight[neighbours]])
    theirs.kv_a_proj_with_mqa.weight.copy_(down)
    theirs.kv_a_layernorm.weight.copy_(ours.latent_norm.weight)
    k, v = ours.k_proj.weight.unflatten(0, (3, 5)), ours.v_proj.weight.unflatten(0, (3, 7))
    theirs.kv_b_proj.weight.copy_(torch.cat([k, v], dim=1).flatten(0, 1))
    theirs.o_proj.weight.copy_(ours.o_proj.weight)
    x = example(seed)
    cos, sin = DeepseekV3RotaryEmbedding(config)(x, torch.arange(6)[None])
    mask = torch.full((6, 6), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    expected, weights = theirs(x, (cos, sin), mask)
    found, own_weights = ours.forward_with_weights(x, sight=sight(torch.arange(6)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(own_weights, weights, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        ours(x, sight=sight(torch.arange(6))), expected, atol=1e-6, rtol=1e-5
    )


def test_bfloat16_and_masks_take_the_same_ways() -> None:
    layer = build().to(torch.bfloat16)
    x = example(0).to(torch.bfloat16)
    mask = torch.tensor([True, True, False, True, True, True]).view(1, 1, 1, 6)
    seen = Sight(mask=mask & torch.ones(6, 6, dtype=torch.bool).tril())
    parts = (*layer.queries(x, seen), *layer.latents(x, seen))
    forms = (
        layer(x, sight=seen),
        layer.attend_absorbed(*parts, sight=seen),
        layer.forward_with_weights(x, sight=seen)[0],
    )
    for form in forms[1:]:
        torch.testing.assert_close(form, forms[0], atol=0.15, rtol=0.05)
    changed = x.clone()
    changed[:, 2] += 1
    others = [0, 1, 3, 4, 5]
    assert torch.equal(layer(changed, sight=seen)[:, others], forms[0][:, others])


def whole_model(**changes: Any) -> Transformer:
    latent = {"d_latent": 6, "d_rotary": 4, "d_query_latent": 5}
    return TransformerConfig.parse(
        {
            "vocab_size": 19,
            "context_length": 9,
            "d_model": 8,
            "n_layers": 2,
            "attention": {"n_heads": 2, "d_head": 3, "bias": False, "latent": latent},
            "norm": {"kind": "rms_norm"},
            "position": {"kind": "rotary"},
            **changes,
        }
    ).build(seed=1)


@given(seed=st.integers(0, 99), cut=st.integers(1, 8), windowed=st.booleans())
def test_a_model_of_it_is_cached_and_uncached_alike(seed: int, cut: int, windowed: bool) -> None:
    model = whole_model(local={"window": 3} if windowed else None, embedding_stream=True).eval()
    ids = torch.randint(19, (2, 9), generator=torch.Generator().manual_seed(seed))
    cache = model.new_cache(2)
    assert cache.n_bytes == 2 * 2 * 9 * (6 + 4) * 4
    parts = [model(part, cache=cache) for part in (ids[:, :cut], *ids[:, cut:].split(1, dim=1))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=1e-4)
    assert len(model.attention_weights(ids)) == 2


def test_a_model_of_it_is_saved_in_our_own_files_and_left_to_torch() -> None:
    model = whole_model()
    assert family_of(model.config) is None
    own = family_for(model.config)
    config, state = own.from_huggingface(*own.to_huggingface(model.config, model.state_dict()))
    assert config == model.config
    assert all(torch.equal(state[name], part) for name, part in model.named_parameters())
    assert "latent" in str(obstacle(model))
    assert inspect_config(model.config).cache_bytes(1, "float32") == 2 * (6 + 4) * 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attention": {"bias": True}}, "wants bias = false"),
        ({"attention": {"d_head": None}}, "and a d_head"),
        ({"attention": {"n_kv_heads": 1}}, "n_kv_heads is no option"),
        ({"attention": {"sinks": True}}, "sinks is no option"),
        ({"value_stream": True}, "latents are kept, no values"),
        ({"attention": {"latent": {"d_latent": 4, "d_rotary": 3}}}, "d_rotary"),
    ],
)
def test_what_does_not_go_together_is_named(changes: dict[str, Any], named: str) -> None:
    values = whole_model().config.model_dump()
    attention = {**values["attention"], **changes.get("attention", {})}
    with pytest.raises(ConfigError, match=named):
        TransformerConfig.parse({**values, **changes, "attention": attention})


def test_rows_of_their_own_lengths_and_blocks_of_a_pool_keep_latents_too() -> None:
    """Two texts of unequal lengths together, in ragged rows and in blocks, as each alone."""
    model = whole_model(init={"std": 0.8, "embedding_std": 1.0, "residual": "plain"}).eval()
    prompts = [[1, 2, 3, 4], [5]]
    greedy = SamplingConfig(temperature=0)

    def alone(prompt: list[int]) -> list[int]:
        return list(generate_ids(model, prompt, max_new_tokens=4, sampling=greedy, cached=False))

    for batch in (Batch(model), ContinuousBatch(model, n_blocks=8, block_size=2)):
        handles = [batch.add(prompt, max_new_tokens=4, sampling=greedy) for prompt in prompts]
        texts: dict[int, list[int]] = {handle: [] for handle in handles}
        while batch.busy:
            for token in batch.step():
                texts[token.handle].append(token.id)
        assert [texts[handle] for handle in handles] == [alone(prompt) for prompt in prompts]
