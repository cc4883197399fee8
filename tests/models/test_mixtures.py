"""Mixtral and Qwen3 with experts: the files that `transformers` writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_families import mixtral, qwen3_moe

from stemma.errors import ConfigError, ModelError
from stemma.models import Transformer
from stemma.models.families import FAMILIES, family_of
from stemma.nn import AttentionConfig, MoEConfig

TINY = {"mixtral": mixtral, "qwen3_moe": qwen3_moe}
NAMES = pytest.mark.parametrize("name", TINY)


def their_model(name: str, **changes: Any) -> Any:
    torch.manual_seed(3)
    values = {
        "vocab_size": 23,
        "max_position_embeddings": 9,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 6,
        "intermediate_size": 12,
        "rms_norm_eps": 1e-6,
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        **changes,
    }
    if name == "mixtral":
        return transformers.MixtralForCausalLM(transformers.MixtralConfig(**values))
    values["num_experts"] = values.pop("num_local_experts")
    values |= {"moe_intermediate_size": 12, "norm_topk_prob": True}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**values))


@pytest.mark.parametrize(
    ("name", "expert"),
    [("mixtral", "block_sparse_moe.experts.3.w2"), ("qwen3_moe", "mlp.experts.3.down_proj")],
)
def test_files_have_a_tensor_for_each_expert_as_on_the_hub(
    name: str, expert: str, tmp_path: Path
) -> None:
    their_model(name).save_pretrained(tmp_path)
    file = load_file(tmp_path / "model.safetensors")
    config = TINY[name]()
    _, tensors = FAMILIES[name].to_huggingface(config, Transformer(config).state_dict())
    assert tensors.keys() == file.keys()
    assert tensors[f"model.layers.1.{expert}.weight"].shape == (8, 12)


@NAMES
def test_an_expert_that_is_missing_or_of_another_shape_is_named(name: str) -> None:
    config = TINY[name]()
    family = FAMILIES[name]
    config_json, tensors = family.to_huggingface(config, Transformer(config).state_dict())
    expert = next(n for n in tensors if "experts.2" in n)
    with pytest.raises(ModelError, match=rf"{expert} has the shape \(2, 2\)"):
        family.from_huggingface(config_json, {**tensors, expert: torch.zeros(2, 2)})
    del tensors[expert]
    with pytest.raises(ModelError, match=f"missing: {expert}"):
        family.from_huggingface(config_json, tensors)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("qwen3_moe", "mlp_only_layers", [1]),
        ("qwen3_moe", "decoder_sparse_step", 2),
        ("qwen3_moe", "shared_expert_intermediate_size", 12),
        ("mixtral", "n_shared_experts", 1),
        ("qwen3_moe", "use_sliding_window", True),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(
    name: str, key: str, value: Any
) -> None:
    config_json = {**FAMILIES[name].write_config(TINY[name]()), key: value}
    with pytest.raises(ModelError, match=f"{key} = .*{name}"):
        FAMILIES[name].read_config(config_json)


def test_a_single_expert_renormalised_is_refused() -> None:
    config_json = {**FAMILIES["mixtral"].write_config(mixtral()), "num_experts_per_tok": 1}
    with pytest.raises(ConfigError, match="the router would learn nothing"):
        FAMILIES["mixtral"].read_config(config_json)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("mixtral", {"attention": AttentionConfig(n_heads=2)}, "attention.bias = True"),
        ("mixtral", {"feedforward": MoEConfig(d_ff=1, n_experts=2, renormalize=False)}, "renorm"),
        ("qwen3_moe", {"attention": AttentionConfig(n_heads=2, bias=False)}, "attention.qk_norm"),
    ],
)
def test_what_they_cannot_express_is_named(name: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        FAMILIES[name].write_config(TINY[name](**changes))
    assert field in str(caught.value)


def test_experts_belong_to_their_families_alone() -> None:
    assert family_of(mixtral()) is FAMILIES["mixtral"]
    assert family_of(qwen3_moe()) is FAMILIES["qwen3_moe"]
    sparse = mixtral(attention=AttentionConfig(n_heads=2, n_kv_heads=1, bias=False))
    dense = sparse.replace(feedforward={"kind": "gated", "d_ff": 12})
    for name in ("llama", "mistral"):
        FAMILIES[name].write_config(dense)
        with pytest.raises(ModelError, match=r"feedforward.kind = 'moe'"):
            FAMILIES[name].write_config(sparse)


def test_settings_of_training_are_no_part_of_the_model() -> None:
    trained = MoEConfig(d_ff=12, n_experts=4, capacity_factor=1.0, jitter=0.1, balance_loss=0.5)
    config_json = FAMILIES["mixtral"].write_config(mixtral(feedforward=trained))
    assert FAMILIES["mixtral"].read_config(config_json) == mixtral()


def test_active_parameters_are_those_that_a_token_meets() -> None:
    model = mixtral().build()
    # Two layers, two idle experts in each, with three matrices of 8 x 12.
    assert model.n_parameters() - model.n_parameters(active=True) == 2 * 2 * 3 * 8 * 12
    ids = torch.arange(1)[None]
    model(ids).sum().backward()  # one token, which leaves the others' gradients at zero
    idle = sum(
        int((part.weight.grad.flatten(1) == 0).all(1).sum()) * part.weight[0].numel()
        for block in model.blocks
        for part in (block.feedforward.gate_proj, block.feedforward.down_proj)
    )
    assert idle == 2 * 2 * 2 * 8 * 12
