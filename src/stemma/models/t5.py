"""T5 in Hugging Face's files: the encoder-decoder with relative positions, as of 2019 and v1.1.

Raffel et al. 2020, arXiv:1910.10683; v1.1 gates its feed-forward layers and has a head of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stemma.models.config_facts import EMBEDDING
from stemma.models.config_json import ACTIVATIONS, ConfigJson
from stemma.models.encoder_decoder_config import EncoderDecoderConfig, encoder_decoder
from stemma.models.family import Family, expect, need
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import (
    AttentionConfig,
    FeedForwardConfig,
    GatedMLPConfig,
    LinearHeadConfig,
    MLPConfig,
    RelativeBucketsConfig,
    RMSNormConfig,
)

_GATED = "gated-"


def to_config_json(config: EncoderDecoderConfig) -> dict[str, Any]:
    """T5's ``config.json``.

    Raises:
        ModelError: if a part is of another kind.
    """
    decoder = config.decoder
    position = expect(decoder.position, RelativeBucketsConfig, "decoder.position")
    feedforward = decoder.feedforward
    known = isinstance(feedforward, GatedMLPConfig | MLPConfig)
    need(known, "decoder.feedforward.kind", feedforward.kind)
    gated = _GATED if isinstance(feedforward, GatedMLPConfig) else ""
    activation = ACTIVATIONS[feedforward.activation]
    # Its classes take "gated-gelu" for the approximation by tanh.
    theirs = "gelu" if gated and activation == "gelu_new" else activation
    need(not (gated and activation == "gelu"), "decoder.feedforward.activation", "gelu")
    scaled = expect(decoder.head, LinearHeadConfig, "decoder.head").scaled
    return {
        "vocab_size": decoder.vocab_size,
        "n_positions": decoder.context_length,
        "d_model": decoder.d_model,
        "d_kv": decoder.attention.head_size(decoder.d_model),
        "d_ff": feedforward.d_ff or 4 * decoder.d_model,
        "num_layers": config.encoder.n_layers,
        "num_decoder_layers": decoder.n_layers,
        "num_heads": decoder.attention.n_heads,
        "relative_attention_num_buckets": position.n_buckets,
        "relative_attention_max_distance": position.max_distance,
        "layer_norm_epsilon": expect(decoder.norm, RMSNormConfig, "decoder.norm").eps,
        "feed_forward_proj": gated + theirs,
        "tie_word_embeddings": scaled,
        "is_encoder_decoder": True,
        "decoder_start_token_id": config.start_id,
        "pad_token_id": config.start_id,
    }


def read_config(config_json: Mapping[str, Any]) -> EncoderDecoderConfig:
    """The config of a T5; without dropout, which is a setting of training.

    ``tie_word_embeddings`` is what tells the two versions apart: v1.1 has a head of its own and
    does not divide what it reads. `transformers` 5 writes ``scale_decoder_outputs`` for it.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.must_be("is_encoder_decoder", True)
    read.must_be("is_decoder", False)
    read.pass_over("dropout_rate", "classifier_dropout", "initializer_factor", "output_past")
    read.pass_over("dense_act_fn", "is_gated_act")  # follow from feed_forward_proj
    first_version = read.flag("tie_word_embeddings", True)
    first_version = read.flag("scale_decoder_outputs", first_version)
    d_model, n_layers = read.integer("d_model"), read.layers("num_layers")
    common = TransformerConfig.parse(
        {
            "vocab_size": read.integer("vocab_size"),
            "context_length": read.integer("n_positions", 512),
            "d_model": d_model,
            "n_layers": n_layers,
            "attention": AttentionConfig(
                n_heads=read.integer("num_heads"),
                d_head=read.integer("d_kv", 64),
                bias=False,
                scale=1.0,
            ),
            "feedforward": _read_feedforward(read),
            "norm": RMSNormConfig(eps=read.number("layer_norm_epsilon", 1e-6)),
            "position": RelativeBucketsConfig(
                n_buckets=read.integer("relative_attention_num_buckets", 32),
                max_distance=read.integer("relative_attention_max_distance", 128),
            ),
            "head": LinearHeadConfig(scaled=first_version),
            "tie_embeddings": first_version,
        },
        source="config.json",
    )
    n_decoder_layers = read.layers("num_decoder_layers", n_layers)
    start_id = read.whole("decoder_start_token_id", 0)
    read.finish(FAMILY.architecture, FAMILY.base_architecture, "T5WithLMHeadModel")
    return encoder_decoder(common, n_decoder_layers=n_decoder_layers, start_id=start_id)


def _read_feedforward(read: ConfigJson) -> FeedForwardConfig:
    known = [gate + name for gate in ("", _GATED) for name in ACTIVATIONS.values()]
    name = read.one_of("feed_forward_proj", known, "relu")
    d_ff = read.integer("d_ff")
    if name == "gated-gelu":
        return GatedMLPConfig(d_ff=d_ff, activation="gelu_tanh")
    by_name = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
    activation = by_name[name.removeprefix(_GATED)]
    if name.startswith(_GATED):
        return GatedMLPConfig(d_ff=d_ff, activation=activation)
    return MLPConfig(d_ff=d_ff, activation=activation, bias=False)


def weights(config: EncoderDecoderConfig) -> Iterator[Row]:
    """The table of names; the buckets of all layers stand in the first."""
    yield Weight("shared.weight", (f"encoder.{EMBEDDING}",))
    gated = isinstance(config.decoder.feedforward, GatedMLPConfig)
    maps = {"wi_0": "gate_proj", "wi_1": "up_proj"} if gated else {"wi": "up_proj"}
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        attentions = {"SelfAttention": ("attention", "norm1")}
        if side == "decoder":
            attentions["EncDecAttention"] = ("cross_attention", "cross_norm")
        for i in range(stack.n_layers):
            theirs, ours = f"{side}.block.{i}.layer", f"{side}.blocks.{i}"
            for j, (name, (part, norm)) in enumerate(attentions.items()):
                for letter in "qkvo":
                    there = f"{theirs}.{j}.{name}.{letter}.weight"
                    yield Weight(there, (f"{ours}.{part}.{letter}_proj.weight",))
                yield Weight(f"{theirs}.{j}.layer_norm.weight", (f"{ours}.{norm}.weight",))
            last = f"{theirs}.{len(attentions)}"
            for their_map, our_map in {**maps, "wo": "down_proj"}.items():
                there = f"{last}.DenseReluDense.{their_map}.weight"
                yield Weight(there, (f"{ours}.feedforward.{our_map}.weight",))
            yield Weight(f"{last}.layer_norm.weight", (f"{ours}.norm2.weight",))
        if stack.n_layers:
            table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            yield Weight(table, (f"{side}.whole.bias.table.weight",))
        yield Weight(f"{side}.final_layer_norm.weight", (f"{side}.final_norm.weight",))


def copies(config: EncoderDecoderConfig) -> dict[str, str]:
    """Older files hold the embedding three times."""
    return {
        f"{side}.embed_tokens.weight": f"encoder.{EMBEDDING}" for side in ("encoder", "decoder")
    }


FAMILY = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    base_architecture="T5Model",
    prefix="",
    head="lm_head.weight",
    # A table that nothing reads: the buckets of the attention to the encoder.
    buffers=lambda config: re.compile(r"EncDecAttention\.relative_attention_bias\.weight$"),
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
    copies=copies,
    config_type=EncoderDecoderConfig,
)
