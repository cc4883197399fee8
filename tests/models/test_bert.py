"""BERT: an encoder with a masked head or a pooler, padding and segments included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from side_by_side import TOLERANCE, build_random, drift
from tiny_families import BERT_NORM as NORM
from tiny_families import bert as tiny

from stemma.errors import ConfigError, ModelError
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import (
    AttentionConfig,
    MaskedHeadConfig,
    NoHeadConfig,
    PoolerConfig,
)

BERT = FAMILIES["bert"]


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertModel", "BertForPreTraining"])
def test_what_a_model_holds_besides_its_file_is_dropped(name: str) -> None:
    """In memory a tied head is there twice, and pretraining has a head for sentences."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=23,
        max_position_embeddings=9,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        architectures=[name],
    )
    other = getattr(transformers, name)(config).eval()
    saved = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    read, state = BERT.from_huggingface(other.config.to_dict(), saved)
    encoder = name == "BertModel"
    assert read == tiny(**({"head": PoolerConfig(), "tie_embeddings": False} if encoder else {}))
    model = Transformer(read).eval()
    model.load_state_dict(state, strict=encoder)
    config_json, tensors = BERT.to_huggingface(read, model.state_dict())
    written = "BertForMaskedLM" if name == "BertForPreTraining" else name
    assert config_json["architectures"] == [written]
    dropped = set(saved) - set(tensors)
    assert all("decoder" in key or "pooler" in key or "seq_rel" in key for key in dropped)
    assert bool(dropped) is not encoder
    assert all(torch.equal(tensors[key], saved[key]) for key in tensors)
    assert BERT.read_config(config_json) == read
    if name != "BertForPreTraining":
        assert drift(model, other)[0] < TOLERANCE


def test_names_of_the_first_years_are_read() -> None:
    """The Hub's bert-base-uncased has gamma and beta, and the heads of its pretraining."""
    model = build_random(tiny())
    config_json, tensors = BERT.to_huggingface(tiny(), model.state_dict())
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert sum("gamma" in name for name in old) == 6
    old |= {"bert.pooler.dense.weight": torch.zeros(8, 8), "bert.pooler.dense.bias": torch.zeros(8)}
    old |= {"cls.seq_relationship.weight": torch.zeros(2, 8)}
    _, state = BERT.from_huggingface(config_json, old)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


def test_bert_base_has_110_million_parameters() -> None:
    config = BERT.read_config({"model_type": "bert", "architectures": ["BertModel"]})
    with torch.device("meta"):
        model = config.build()
    assert model.n_parameters() == 109_482_240
    assert family_of(config) is BERT


def test_an_encoder_does_not_continue_text() -> None:
    with pytest.raises(ModelError, match="cannot continue"):
        tiny().build().new_cache(1)


def test_no_head_has_nothing_to_tie() -> None:
    with pytest.raises(ConfigError, match="tie_embeddings = false"):
        TransformerConfig.parse({**tiny().model_dump(), "head": {"kind": "none"}})
    model = tiny(head=NoHeadConfig(), tie_embeddings=False).build()
    ids = torch.arange(5)[None]
    assert model(ids).equal(model.hidden_states(ids))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"causal": True}, "causal = True"),
        ({"placement": "pre"}, "placement = 'pre'"),
        ({"embedding_norm": False}, "embedding_norm = False"),
        ({"n_segments": None}, "n_segments"),
        ({"head": MaskedHeadConfig(activation="relu", norm=NORM)}, "head.activation = 'relu'"),
        ({"head": NoHeadConfig(), "tie_embeddings": False}, "head.kind = 'none'"),
        ({"attention": AttentionConfig(n_heads=2, d_head=3)}, "attention.d_head = 3"),
    ],
)
def test_what_bert_cannot_express_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError) as caught:
        BERT.write_config(tiny(**changes))
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("position_embedding_type", "relative_key"), ("is_decoder", True), ("hidden_act", "tanh")],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{key} = .*bert"):
        BERT.read_config({**BERT.write_config(tiny()), key: value})
