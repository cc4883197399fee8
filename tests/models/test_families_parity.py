"""Every checkpoint family: its logits are those of `transformers`, and its files go both ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_encoder_decoders as pairs
import tiny_families as tiny
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from side_by_side import BY_FILES, TOLERANCE, assert_equal_logits, build_random, drift, theirs

from stemma.models import EncoderDecoder, Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.nn import PoolerConfig

GPT = {"vocab_size": 23, "n_positions": 9, "n_embd": 8, "n_layer": 2, "n_head": 2}
BERT = {
    "vocab_size": 23,
    "max_position_embeddings": 9,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
LLAMA = {**BERT, "num_key_value_heads": 1}
MISTRAL = {**LLAMA, "head_dim": 6, "sliding_window": None}
QWEN3 = {
    **LLAMA,
    "hidden_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}
GEMMA3 = {
    **LLAMA,
    "num_hidden_layers": 3,
    "head_dim": 6,
    "query_pre_attn_scalar": 7,
    "sliding_window": 3,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "pad_token_id": None,
}
MIXTURE = {**LLAMA, "head_dim": 6, "rms_norm_eps": 1e-6, "num_experts_per_tok": 2}
MIXTRAL = {**MIXTURE, "num_local_experts": 4, "rope_theta": 10_000.0}
QWEN3_MOE = {**MIXTURE, "num_experts": 4, "moe_intermediate_size": 12, "norm_topk_prob": True}
T5 = {
    "vocab_size": 23,
    "d_model": 8,
    "d_kv": 6,
    "d_ff": 12,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "n_positions": 9,
    "decoder_start_token_id": 0,
}
MARIAN = {
    "vocab_size": 23,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "max_position_embeddings": 9,
    "activation_function": "swish",
    "scale_embedding": True,
    "pad_token_id": 22,
    "decoder_start_token_id": 22,
}

Changes = Mapping[str, Any]
TIED = tuple(({"tie_embeddings": tied}, {"tie_word_embeddings": tied}) for tied in (True, False))
BERTS = (
    ({}, {"architectures": ["BertForMaskedLM"]}),
    ({"head": PoolerConfig(), "tie_embeddings": False}, {"architectures": ["BertModel"]}),
)
T5S = (
    ({"first": True}, {"feed_forward_proj": "relu", "tie_word_embeddings": True}),
    ({"first": False}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
)
MARIANS = (({"start_id": 22}, {}),)


@dataclass(frozen=True)
class Sample:
    """A family in small.

    Attributes:
        tiny: a config of it, with changes.
        drawn: configs at random.
        numbers: of ``tiny``, as the config class of `transformers` calls them.
        twins: changes of ``tiny``, each with those of ``numbers`` that mean the same.
    """

    tiny: Callable[..., Any]
    drawn: Callable[[], st.SearchStrategy[Any]]
    numbers: Changes
    twins: Sequence[tuple[Changes, Changes]] = TIED


SAMPLES = {
    "openai-gpt": Sample(tiny.gpt1, tiny.gpt1s, GPT),
    "gpt2": Sample(tiny.gpt2, tiny.gpt2s, GPT),
    "bert": Sample(tiny.bert, tiny.berts, BERT, BERTS),
    "llama": Sample(tiny.llama, tiny.llamas, LLAMA),
    "qwen2": Sample(tiny.qwen2, partial(tiny.windowed, tiny.qwen2), LLAMA),
    "mistral": Sample(tiny.mistral, partial(tiny.windowed, tiny.mistral), MISTRAL),
    "qwen3": Sample(tiny.qwen3, tiny.qwen3s, QWEN3),
    "gemma3_text": Sample(tiny.gemma3, tiny.gemma3s, GEMMA3),
    "mixtral": Sample(tiny.mixtral, partial(tiny.mixtures, tiny.mixtral), MIXTRAL),
    "qwen3_moe": Sample(tiny.qwen3_moe, partial(tiny.mixtures, tiny.qwen3_moe), QWEN3_MOE),
    "t5": Sample(pairs.t5, pairs.t5s, T5, T5S),
    "marian": Sample(pairs.marian, pairs.marians, MARIAN, MARIANS),
}
TWINS = [(name, *twin) for name, sample in SAMPLES.items() for twin in sample.twins]
# An untied model has every parameter that the tied one has.
WHOLE = [(name, changes) for name, changes, _ in TWINS if not changes.get("tie_embeddings")]


def test_every_family_is_here() -> None:
    assert SAMPLES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(name: str, data: st.DataObject, seed: int) -> None:
    assert_equal_logits(name, data.draw(SAMPLES[name].drawn()), seed)


@pytest.mark.parametrize(("name", "changes"), WHOLE)
def test_the_comparison_can_fail(name: str, changes: Changes) -> None:
    """A change of any one parameter shows in the outputs and in the KL divergence.

    All but the keys' bias without rotation: it adds the same to every score of a row.
    """
    model = build_random(SAMPLES[name].tiny(**changes))
    other = theirs(name, model)
    rotates = isinstance(model, Transformer) and model.whole.rotary is not None
    generator = torch.Generator().manual_seed(9)
    for part, parameter in model.named_parameters():
        if part.endswith("k_proj.bias") and not rotates:
            continue
        kept = parameter.data.clone()
        parameter.data += torch.randn(kept.shape, generator=generator)
        difference, kl = drift(model, other)
        assert difference > 10 * TOLERANCE, part
        assert kl > 1e-6, part
        parameter.data = kept
    assert drift(model, other)[0] < TOLERANCE


def save_theirs(name: str, changes: Changes, directory: Path) -> Any:
    """A random model of `transformers` in its files, and as these are opened there."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(name, **SAMPLES[name].numbers, **changes)
    theirs_ = getattr(transformers, (config.architectures or [FAMILIES[name].architecture])[0])
    other = theirs_(config)
    if not changes.get("tie_word_embeddings", True):  # T5 begins with one table all the same
        other.lm_head.weight = torch.nn.Parameter(torch.empty_like(other.lm_head.weight))
    for parameter in [*other.parameters(), *other.buffers()]:
        if parameter.is_floating_point():
            torch.nn.init.normal_(parameter, std=0.3)
    other.save_pretrained(directory)
    return theirs_.from_pretrained(directory, **BY_FILES.get(name, {})).eval()


@pytest.mark.parametrize(("name", "changes", "their_changes"), TWINS)
def test_round_trip_is_identical_to_the_bit(
    name: str, changes: Changes, their_changes: Changes, tmp_path: Path
) -> None:
    """Theirs -> ours -> theirs; and equal logits on the way."""
    family = FAMILIES[name]
    other = save_theirs(name, their_changes, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    read, state = family.from_huggingface(json.loads((tmp_path / "config.json").read_text()), saved)
    assert read == SAMPLES[name].tiny(**changes)
    single = isinstance(read, TransformerConfig)
    model = Transformer(read) if single else EncoderDecoder(read)
    model.load_state_dict(state, strict=single and not read.tie_embeddings)
    assert drift(model.eval(), other)[0] < TOLERANCE
    config_json, tensors = family.to_huggingface(read, model.state_dict())
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[key], saved[key]) for key in saved)
    assert family.read_config(config_json) == read
