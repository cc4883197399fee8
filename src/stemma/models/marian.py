"""Marian in Hugging Face's files: the Transformer of 2017, with all sines before all cosines.

Junczys-Dowmunt et al. 2018, arXiv:1804.00344; the models of OPUS-MT are such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models.config_facts import EMBEDDING
from stemma.models.config_json import ACTIVATIONS, ConfigJson
from stemma.models.encoder_decoder_config import EncoderDecoderConfig
from stemma.models.family import Family, expect, need_heads_that_fill
from stemma.models.llama import linear_weights
from stemma.models.rows import OneRow, Row, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import (
    AttentionConfig,
    LinearHeadConfig,
    MLPConfig,
    NoHeadConfig,
    SinusoidalPositionsConfig,
)

_SIDES = ("encoder", "decoder")


def to_config_json(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Marian's ``config.json``.

    Raises:
        ModelError: if a part is of another kind.
    """
    found: dict[str, Any] = {}
    for side, stack in zip(_SIDES, (config.encoder, config.decoder), strict=True):
        need_heads_that_fill(stack)
        feedforward = expect(stack.feedforward, MLPConfig, f"{side}.feedforward")
        found[f"{side}_layers"] = stack.n_layers
        found[f"{side}_attention_heads"] = stack.attention.n_heads
        found[f"{side}_ffn_dim"] = feedforward.d_ff or 4 * stack.d_model
        found["activation_function"] = ACTIVATIONS[feedforward.activation]
    return {
        **found,
        "vocab_size": config.encoder.vocab_size,
        "decoder_vocab_size": config.decoder.vocab_size,
        "max_position_embeddings": config.decoder.context_length,
        "d_model": config.decoder.d_model,
        "scale_embedding": config.decoder.scale_embeddings,
        "share_encoder_decoder_embeddings": config.share_embeddings,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "decoder_start_token_id": config.start_id,
        "pad_token_id": config.start_id,
    }


def read_config(config_json: Mapping[str, Any]) -> EncoderDecoderConfig:
    """The config of a Marian; without dropout, which is a setting of training.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("is_encoder_decoder", True)
    read.must_be("tie_word_embeddings", True)
    for name, only in _ALWAYS.items():
        read.must_be(name, only)
    read.pass_over(
        "dropout", "attention_dropout", "activation_dropout", "init_std", "num_hidden_layers"
    )
    read.pass_over(
        "encoder_layerdrop", "decoder_layerdrop", "classifier_dropout", "classif_dropout"
    )
    read.pass_over("forced_eos_token_id", "bad_words_ids")  # habits of generation
    encoder, decoder = (_read_side(read, side) for side in _SIDES)
    config = EncoderDecoderConfig.parse(
        {
            "encoder": encoder.replace(causal=False, head=NoHeadConfig(), tie_embeddings=False),
            "decoder": decoder.replace(cross_attention=decoder.attention),
            "share_embeddings": read.flag("share_encoder_decoder_embeddings", True),
            "start_id": read.whole("decoder_start_token_id", 58_100),
        },
        source="config.json",
    )
    read.finish(FAMILY.architecture, FAMILY.base_architecture)
    return config


# What the configs of OPUS-MT's files say, of BART's classes, and what Marian's do in any case.
_ALWAYS = {
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "normalize_before": False,
    "normalize_embedding": False,
    "static_position_embeddings": True,
}

_OF_TRAINING = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "classifier_dropout",
    "classif_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "init_std",
)
_OF_GENERATION = ("forced_eos_token_id", "bad_words_ids")


def _read_side(read: ConfigJson, side: str) -> TransformerConfig:
    sizes = [read.integer("vocab_size")]
    if side == "decoder":
        sizes.append(read.integer("decoder_vocab_size", sizes[0]))
    return TransformerConfig.parse(
        {
            "vocab_size": sizes[-1],
            "context_length": read.integer("max_position_embeddings", 1024),
            "d_model": read.integer("d_model"),
            "n_layers": read.layers(f"{side}_layers"),
            "attention": AttentionConfig(n_heads=read.integer(f"{side}_attention_heads")),
            "feedforward": MLPConfig(
                d_ff=read.integer(f"{side}_ffn_dim"),
                activation=read.activation("activation_function", "gelu"),
            ),
            "position": SinusoidalPositionsConfig(halves=True),
            "placement": "post",
            "scale_embeddings": read.flag("scale_embedding", False),
            "head": LinearHeadConfig(bias=True),
        },
        source="config.json",
    )


def weights(config: EncoderDecoderConfig) -> Iterator[Row]:
    """The table of names."""
    if config.share_embeddings:
        yield Weight("model.shared.weight", (f"encoder.{EMBEDDING}",))
    else:
        for side in _SIDES:
            yield Weight(f"model.{side}.embed_tokens.weight", (f"{side}.{EMBEDDING}",))
    yield OneRow("final_logits_bias", "decoder.head.bias")
    for side, stack in zip(_SIDES, (config.encoder, config.decoder), strict=True):
        attentions = {"self_attn": ("attention", "norm1")}
        if side == "decoder":
            attentions["encoder_attn"] = ("cross_attention", "cross_norm")
        norms = {f"{name}_layer_norm": norm for name, (_, norm) in attentions.items()}
        for i in range(stack.n_layers):
            theirs, ours = f"model.{side}.layers.{i}", f"{side}.blocks.{i}"
            for name, (part, _) in attentions.items():
                there, here = f"{theirs}.{name}", f"{ours}.{part}"
                yield from linear_weights(there, here, ("q_proj", "k_proj", "v_proj"), bias=True)
                yield from _pair(f"{there}.out_proj", f"{here}.o_proj")
            yield from _pair(f"{theirs}.fc1", f"{ours}.feedforward.up_proj")
            yield from _pair(f"{theirs}.fc2", f"{ours}.feedforward.down_proj")
            for name, norm in {**norms, "final_layer_norm": "norm2"}.items():
                yield from _pair(f"{theirs}.{name}", f"{ours}.{norm}")


def _pair(theirs: str, ours: str) -> Iterator[Row]:
    for kind in ("weight", "bias"):
        yield Weight(f"{theirs}.{kind}", (f"{ours}.{kind}",))


def copies(config: EncoderDecoderConfig) -> dict[str, str]:
    """Older files hold a shared embedding three times."""
    if not config.share_embeddings:
        return {}
    return {f"model.{side}.embed_tokens.weight": f"encoder.{EMBEDDING}" for side in _SIDES}


FAMILY = Family(
    model_type="marian",
    architecture="MarianMTModel",
    base_architecture="MarianModel",
    prefix="",
    head="lm_head.weight",
    buffers=lambda config: re.compile(r"\.embed_positions\.weight$"),
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
    copies=copies,
    config_type=EncoderDecoderConfig,
)
