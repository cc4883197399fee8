"""GPT-2 in Hugging Face's files: learned positions, LayerNorm, one fused map for q, k and v.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". GPT-2's linear maps are
stored input x output ("Conv1D"), ours output x input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models.config_facts import EMBEDDING
from stemma.models.config_json import ACTIVATIONS, ConfigJson
from stemma.models.family import Family, expect, need_heads_that_fill
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import AttentionConfig, LayerNormConfig, LearnedPositionsConfig, MLPConfig


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """GPT-2's ``config.json``.

    Raises:
        ModelError: if norm or feed-forward are of other kinds, or the size of a head does not
            follow from ``d_model``.
    """
    feedforward = expect(config.feedforward, MLPConfig, "feedforward")
    activation = ACTIVATIONS[feedforward.activation]
    return {
        **write_shape(config),
        "n_inner": feedforward.d_ff,
        "activation_function": activation,
    }


def write_shape(config: TransformerConfig) -> dict[str, Any]:
    """The keys of ``config.json`` that GPT-1 has too.

    Raises:
        ModelError: if the norm is of another kind, or the size of a head does not follow from
            ``d_model``.
    """
    need_heads_that_fill(config)
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.attention.n_heads,
        "layer_norm_epsilon": expect(config.norm, LayerNormConfig, "norm").eps,
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a GPT-2; without dropout, which is a setting of training.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("scale_attn_weights", True)
    read.pass_over("reorder_and_upcast_attn")  # the same numbers, summed in float32
    shape = read_shape(read, vocab_size=50_257, context_length=1024)
    feedforward = MLPConfig(
        d_ff=read.integer("n_inner", 4 * shape["d_model"]),
        activation=read.activation("activation_function", "gelu_new"),
    )
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return TransformerConfig.parse({**shape, "feedforward": feedforward}, source="config.json")


def read_shape(read: ConfigJson, *, vocab_size: int, context_length: int) -> dict[str, Any]:
    """The fields that GPT-1 has too; the numbers are those of a file that does not say.

    Raises:
        ModelError: naming the key that cannot be done here.
    """
    read.pass_over("resid_pdrop", "embd_pdrop", "attn_pdrop", "n_ctx")
    read.pass_over(*(key for key in read if key.startswith("summary_")))
    return {
        "vocab_size": read.integer("vocab_size", vocab_size),
        "context_length": read.integer("n_positions", context_length),
        "d_model": read.integer("n_embd", 768),
        "n_layers": read.layers("n_layer", 12),
        "attention": AttentionConfig(n_heads=read.integer("n_head", 12)),
        "norm": LayerNormConfig(eps=read.number("layer_norm_epsilon", 1e-5)),
        "position": LearnedPositionsConfig(),
        "tie_embeddings": read.flag("tie_word_embeddings", True),
    }


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names."""
    yield Weight("transformer.wte.weight", (EMBEDDING,))
    yield Weight("transformer.wpe.weight", ("embed.positions.weight",))
    yield from block_weights(config)
    for kind in ("weight", "bias"):
        yield Weight(f"transformer.ln_f.{kind}", (f"final_norm.{kind}",))


def block_weights(config: TransformerConfig) -> Iterator[Row]:
    """The names within the layers, which GPT-1 has too."""
    for i in range(config.n_layers):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        for norm, name in (("ln_1", "norm1"), ("ln_2", "norm2")):
            for kind in ("weight", "bias"):
                yield Weight(f"{theirs}.{norm}.{kind}", (f"{ours}.{name}.{kind}",))
        qkv = [f"{ours}.attention.{name}_proj" for name in "qkv"]
        for place, names in {
            "attn.c_attn": qkv,
            "attn.c_proj": [f"{ours}.attention.o_proj"],
            "mlp.c_fc": [f"{ours}.feedforward.up_proj"],
            "mlp.c_proj": [f"{ours}.feedforward.down_proj"],
        }.items():
            matrices = tuple(f"{name}.weight" for name in names)
            yield Weight(f"{theirs}.{place}.weight", matrices, transposed=True)
            yield Weight(f"{theirs}.{place}.bias", tuple(f"{name}.bias" for name in names))


FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    base_architecture="GPT2Model",
    prefix="transformer.",
    head="lm_head.weight",
    buffers=lambda config: re.compile(r"\.attn\.(bias|masked_bias)$"),
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
)
