"""BERT in Hugging Face's files: an encoder, with its masked head, or with a pooler alone.

Devlin et al. 2018, arXiv:1810.04805. Of a file with more heads than its class reads, the others
are passed over, as `transformers` does.
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
from stemma.nn import (
    AttentionConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    MaskedHeadConfig,
    MLPConfig,
    PoolerConfig,
)

_IN_LAYERS = {
    "attention.self.query": "attention.q_proj",
    "attention.self.key": "attention.k_proj",
    "attention.self.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "feedforward.up_proj",
    "output.dense": "feedforward.down_proj",
    "output.LayerNorm": "norm2",
}


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
    """BERT's ``config.json``.

    Raises:
        ModelError: if norm or feed-forward are of other kinds, or the size of a head does not
            follow from ``d_model``.
    """
    need_heads_that_fill(config)
    feedforward = expect(config.feedforward, MLPConfig, "feedforward")
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.attention.n_heads,
        "intermediate_size": feedforward.d_ff or 4 * config.d_model,
        "hidden_act": ACTIVATIONS[feedforward.activation],
        "layer_norm_eps": expect(config.norm, LayerNormConfig, "norm").eps,
        "type_vocab_size": config.n_segments,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def read_config(config_json: Mapping[str, Any]) -> TransformerConfig:
    """The config of a BERT; without dropout, which is a setting of training.

    Raises:
        ModelError: naming the key of ``config_json`` that cannot be done here.
        ConfigError: if its numbers do not fit one another.
    """
    read = ConfigJson(config_json, FAMILY.model_type)
    read.pass_over("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    read.pass_over("gradient_checkpointing", "directionality")
    read.pass_over(*(key for key in config_json if key.startswith("pooler_")))
    read.must_be("position_embedding_type", "absolute")
    encoder = FAMILY.base_architecture in read.words("architectures", [])
    activation = read.activation("hidden_act", "gelu")
    norm = LayerNormConfig(eps=read.number("layer_norm_eps", 1e-12))
    tied = read.flag("tie_word_embeddings", True)
    config = TransformerConfig.parse(
        {
            "vocab_size": read.integer("vocab_size", 30_522),
            "context_length": read.integer("max_position_embeddings", 512),
            "d_model": read.integer("hidden_size", 768),
            "n_layers": read.layers("num_hidden_layers", 12),
            "attention": AttentionConfig(n_heads=read.integer("num_attention_heads", 12)),
            "feedforward": MLPConfig(
                d_ff=read.integer("intermediate_size", 3072), activation=activation
            ),
            "norm": norm,
            "position": LearnedPositionsConfig(),
            "placement": "post",
            "causal": False,
            "head": PoolerConfig()
            if encoder
            else MaskedHeadConfig(activation=activation, norm=norm),
            "tie_embeddings": tied and not encoder,
            "embedding_norm": True,
            "n_segments": read.integer("type_vocab_size", 2),
        },
        source="config.json",
    )
    read.finish(FAMILY.architecture, FAMILY.base_architecture, "BertForPreTraining")
    return config


def weights(config: TransformerConfig) -> Iterator[Row]:
    """The table of names."""
    places = {"bert.embeddings.LayerNorm": "embed.norm"}
    for i in range(config.n_layers):
        for theirs, ours in _IN_LAYERS.items():
            places[f"bert.encoder.layer.{i}.{theirs}"] = f"blocks.{i}.{ours}"
    if isinstance(config.head, PoolerConfig):
        places["bert.pooler.dense"] = "head.dense"
    else:
        places["cls.predictions.transform.dense"] = "head.transform"
        places["cls.predictions.transform.LayerNorm"] = "head.norm"
    yield Weight("bert.embeddings.word_embeddings.weight", (EMBEDDING,))
    yield Weight("bert.embeddings.position_embeddings.weight", ("embed.positions.weight",))
    yield Weight("bert.embeddings.token_type_embeddings.weight", ("embed.segments.weight",))
    for theirs, ours in places.items():
        for kind in ("weight", "bias"):
            yield Weight(f"{theirs}.{kind}", (f"{ours}.{kind}",))
    if not isinstance(config.head, PoolerConfig):
        yield Weight("cls.predictions.bias", ("head.bias",))
        if not config.tie_embeddings:  # its class then has two, and adds this one
            yield Weight("cls.predictions.decoder.bias", ("head.bias",))


def _other_heads(config: TransformerConfig) -> re.Pattern[str]:
    """What its class does not read: the other heads, and a tied bias under its second name."""
    masked = r"^bert\.pooler\.|^cls\.seq_relationship\.|^cls\.predictions\.decoder\.bias$"
    other = r"^cls\." if isinstance(config.head, PoolerConfig) else masked
    return re.compile(rf"\.position_ids$|{other}")


FAMILY = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    base_architecture="BertModel",
    prefix="bert.",
    head="cls.predictions.decoder.weight",
    buffers=_other_heads,
    to_config_json=to_config_json,
    read_config=read_config,
    weights=weights,
)
