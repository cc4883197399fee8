"""Llama in Hugging Face's files: RMSNorm, rotary positions, a gated feed-forward, shared keys.

Touvron et al. 2023, arXiv:2302.13971. What all models of its shape have in common stands here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Literal

from stemma.models.config_facts import EMBEDDING
from stemma.models.config_json import ACTIVATIONS, ConfigJson
from stemma.models.family import Family, expect, need
from stemma.models.rotary_json import read_rotary, write_rotary
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig
from stemma.nn import AttentionConfig, GatedMLPConfig, MoEConfig, RMSNormConfig, RotaryConfig

_USUAL = {"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh"}


def write_shape(config: TransformerConfig) -> dict[str, Any]:
    """The keys of ``config.json`` that all models of Llama's shape share."""
    norm = expect(config.norm, RMSNormConfig, "norm")
    feedforward = config.feedforward
    gated = isinstance(feedforward, GatedMLPConfig | MoEConfig)
    need(gated, "feedforward.kind", feedforward.kind)
    position = expect(config.position, RotaryConfig, "position")
    attention = config.attention
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads or attention.n_heads,
        "head_dim": attention.head_size(config.d_model),
        "intermediate_size": feedforward.d_ff,
        "hidden_act": ACTIVATIONS[feedforward.activation],
        "rms_norm_eps": norm.eps,
        **write_rotary(position),
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
    }


def read_shape(
    read: ConfigJson,
    *,
    attention: AttentionConfig,
    feedforward: GatedMLPConfig | MoEConfig,
    norm: RMSNormConfig,
    position: RotaryConfig,
    local: LocalLayersConfig | None = None,
    tied: bool = False,
) -> TransformerConfig:
    """The config of a model of Llama's shape; without dropout, which is a setting of training.

    Args:
        read: its ``config.json``.
        attention: as `read_heads` finds it.
        feedforward: as `read_gate` finds it, or experts.
        norm: as `read_norm` finds it.
        position: the rotations.
        local: layers that see a window.
        tied: whether the head is the embedding's where the file does not say so.

    Raises:
        ModelError: naming the key that is missing or cannot be done here.
        ConfigError: if the numbers do not fit one another.
    """
    read.pass_over("attention_dropout")
    return TransformerConfig.parse(
        {
            "vocab_size": read.integer("vocab_size"),
            "context_length": read.integer("max_position_embeddings"),
            "d_model": read.integer("hidden_size"),
            "n_layers": read.layers("num_hidden_layers"),
            "attention": attention,
            "feedforward": feedforward,
            "norm": norm,
            "position": position,
            "local": local,
            "tie_embeddings": read.flag("tie_word_embeddings", tied),
        },
        source="config.json",
    )


def read_norm(read: ConfigJson, eps: float = 1e-6, *, from_one: bool = False) -> RMSNormConfig:
    """The norm of all layers; ``eps`` is that of a file that does not have the key."""
    return RMSNormConfig(eps=read.number("rms_norm_eps", eps), from_one=from_one)


def read_gate(
    read: ConfigJson, activation: str = "hidden_act", *, bias: bool = False
) -> GatedMLPConfig:
    """The gated feed-forward; ``activation`` is the key that names its nonlinearity."""
    return GatedMLPConfig(
        d_ff=read.integer("intermediate_size"),
        activation=read.activation(activation, _USUAL[activation]),
        bias=bias,
    )


def read_heads(
    read: ConfigJson,
    *,
    d_head: int | None,
    bias: bool | Literal["qkv"],
    n_kv_heads: int | None = None,
    qk_norm: RMSNormConfig | None = None,
) -> AttentionConfig:
    """The attention of all layers.

    Args:
        read: ``config.json``.
        d_head: features of a head, if they do not follow from the others.
        bias: whether its maps have biases.
        n_kv_heads: of a file that does not have the key; those of the queries by default.
        qk_norm: of queries and keys.
    """
    n_heads = read.integer("num_attention_heads")
    unsaid = n_heads if read.states("num_key_value_heads") else n_kv_heads or n_heads
    return AttentionConfig(
        n_heads=n_heads,
        n_kv_heads=read.integer("num_key_value_heads", unsaid),
        d_head=d_head,
        bias=bias,
        qk_norm=qk_norm,
    )


_NORMS = {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"}


def frame_weights(config: TransformerConfig, norms: Mapping[str, str] = _NORMS) -> Iterator[Row]:
    """The rows of all but the feed-forward.

    Args:
        config: of the model.
        norms: their names of a layer's norms -> ours.
    """
    bias = config.attention.bias
    yield Weight("model.embed_tokens.weight", (EMBEDDING,))
    for i in range(config.n_layers):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        for their_norm, our_norm in norms.items():
            yield Weight(f"{theirs}.{their_norm}.weight", (f"{ours}.{our_norm}.weight",))
        there, here = f"{theirs}.self_attn", f"{ours}.attention"
        yield from linear_weights(there, here, ("q_proj", "k_proj", "v_proj"), bias=bool(bias))
        yield from linear_weights(there, here, ("o_proj",), bias=bias is True)
    yield Weight("model.norm.weight", ("final_norm.weight",))


def linear_weights(theirs: str, ours: str, names: Iterable[str], *, bias: bool) -> Iterator[Row]:
    """Rows of linear maps that are called the same there and here."""
    for name, kind in product(names, ("weight", "bias") if bias else ("weight",)):
        yield Weight(f"{theirs}.{name}.{kind}", (f"{ours}.{name}.{kind}",))


def weights(config: TransformerConfig, norms: Mapping[str, str] = _NORMS) -> Iterator[Row]:
    """The table of names that all models of Llama's shape with a gated feed-forward share."""
    yield from frame_weights(config, norms)
    feedforward = expect(config.feedforward, GatedMLPConfig, "feedforward")
    names = ("gate_proj", "up_proj", "down_proj")
    for i in range(config.n_layers):
        theirs, ours = f"model.layers.{i}.mlp", f"blocks.{i}.feedforward"
        yield from linear_weights(theirs, ours, names, bias=feedforward.bias)


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """Llama's ``config.json``.

    Raises:
        ModelError: if ``n_heads`` does not divide ``d_model``, on which its classes insist.
    """
    n_heads = config.attention.n_heads
    need(config.d_model % n_heads == 0, "attention.n_heads", n_heads)
    mlp_bias = expect(config.feedforward, GatedMLPConfig, "feedforward").bias
    biases = {"attention_bias": bool(config.attention.bias), "mlp_bias": mlp_bias}
    return {**write_shape(config), **biases}


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a Llama.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("pretraining_tp", 1)
    read.pass_over("is_llama_config")
    d_head = read.optional_integer("head_dim")
    bias, mlp_bias = read.flag("attention_bias", False), read.flag("mlp_bias", False)
    config = read_shape(
        read,
        attention=read_heads(read, d_head=d_head, bias=bias),
        feedforward=read_gate(read, bias=mlp_bias),
        norm=read_norm(read),
        position=read_rotary(read),
    )
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


def shaped(
    model_type: str,
    name: str,
    to_config_json: Callable[[TransformerConfig], dict[str, Any]],
    read_config: Callable[[Mapping[str, Any]], TransformerConfig],
    weights: Callable[[TransformerConfig], Iterable[Row]] = weights,
) -> Family[TransformerConfig]:
    """A family of Llama's shape: all that differs between them.

    Args:
        model_type: see `Family`, as for the others.
        name: what its classes in `transformers` are named by.
        to_config_json: to ``config.json``.
        read_config: from it.
        weights: the table of names.
    """
    return Family(
        model_type=model_type,
        architecture=f"{name}ForCausalLM",
        base_architecture=f"{name}Model",
        prefix="model.",
        head="lm_head.weight",
        buffers=lambda config: re.compile(r"\.rotary_emb\.inv_freq$"),
        to_config_json=to_config_json,
        read_config=read_config,
        weights=weights,
    )


FAMILY = shaped("llama", "Llama", to_config_json, read_config)
