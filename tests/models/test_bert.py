"""BERT: an encoder with a masked head or a pooler, padding and segments included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ConfigError, ModelError
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES, family_of
from stemma.nn import (
    AttentionConfig,
    LayerNormConfig,
    MaskedHeadConfig,
    MLPConfig,
    NoHeadConfig,
    PoolerConfig,
)

Build = Callable[..., Transformer]
BERT = FAMILIES["bert"]
NORM = LayerNormConfig(eps=1e-12)


def tiny(**changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": AttentionConfig(n_heads=2),
        "feedforward": MLPConfig(d_ff=12, activation="gelu"),
        "norm": NORM,
        "placement": "post",
        "causal": False,
        "head": MaskedHeadConfig(activation="gelu", norm=NORM),
        "embedding_norm": True,
        "n_segments": 2,
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_heads = draw(st.integers(1, 4))
    norm = LayerNormConfig(eps=draw(st.sampled_from([1e-12, 1e-3])))
    activation = draw(st.sampled_from(["gelu", "relu", "gelu_tanh"]))
    pooled = draw(st.booleans())
    return tiny(
        vocab_size=draw(st.integers(2, 40)),
        context_length=draw(st.integers(1, 12)),
        d_model=n_heads * draw(st.integers(4, 8)),  # two features normed are two signs
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(n_heads=n_heads),
        feedforward=MLPConfig(d_ff=draw(st.integers(1, 40)), activation=activation),
        norm=norm,
        head=PoolerConfig() if pooled else MaskedHeadConfig(activation=activation, norm=norm),
        tie_embeddings=not pooled and draw(st.booleans()),
        n_segments=draw(st.integers(1, 3)),
    )


def theirs(config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    config = transformers.AutoConfig.for_model(**config_json)
    model = getattr(transformers, config_json["architectures"][0])(config).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    doubles = {"cls.predictions.decoder.bias"}  # another name of cls.predictions.bias
    assert set(missing) <= doubles | ({BERT.head} if config.tie_word_embeddings else set())
    model.tie_weights()
    return model


def inputs(config: TransformerConfig, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, segments, and where the rows are text: the second is padded by at least one."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, config.context_length)
    ids = torch.randint(config.vocab_size, shape, generator=generator)
    segments = torch.randint(config.n_segments or 1, shape, generator=generator)
    text = torch.ones(shape, dtype=torch.int64)
    text[1, max(1, config.context_length // 2) :] = 0
    return ids, segments, text


@torch.no_grad()
def drift(model: Transformer, other: Any, seed: int) -> float:
    """Largest difference of hidden states and heads, where there is text."""
    ids, segments, text = inputs(model.config, seed)
    found = other(ids, token_type_ids=segments, attention_mask=text, output_hidden_states=True)
    hidden = model.hidden_states(ids, document_ids=text, segment_ids=segments)
    apart = [(hidden - found.hidden_states[-1])[text.bool()].abs().max()]
    if isinstance(model.config.head, PoolerConfig):
        apart.append((model.head(hidden)[:, 0] - found.pooler_output).abs().max())
    else:
        apart.append((model.head(hidden) - found.logits)[text.bool()].abs().max())
    return float(max(apart))


@settings(max_examples=25)
@given(config=configs(), seed=st.integers(0, 100))
def test_it_is_that_of_transformers(
    random_model: Build, config: TransformerConfig, seed: int
) -> None:
    model = random_model(config, seed)
    other = theirs(*BERT.to_huggingface(config, model.state_dict()))
    assert drift(model, other, seed) < 1e-4


@pytest.mark.parametrize("head", [tiny().head, PoolerConfig()])
def test_the_comparison_can_fail(random_model: Build, head: Any) -> None:
    config = tiny(head=head, tie_embeddings=not isinstance(head, PoolerConfig))
    model = random_model(config)
    other = theirs(*BERT.to_huggingface(config, model.state_dict()))
    for name, parameter in model.named_parameters():
        if name.endswith("k_proj.bias"):  # it adds the same to every score of a row
            continue
        kept = parameter.data.clone()
        parameter.data += torch.randn(kept.shape, generator=torch.Generator().manual_seed(9))
        assert drift(model, other, 1) > 1e-3, name
        parameter.data = kept
    assert drift(model, other, 1) < 1e-4


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertModel", "BertForPreTraining"])
def test_round_trip_is_identical_to_the_bit(name: str) -> None:
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
        assert drift(model, other, 4) < 1e-4


def test_names_of_the_first_years_are_read(random_model: Build) -> None:
    """The Hub's bert-base-uncased has gamma and beta, and the heads of its pretraining."""
    model = random_model(tiny())
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
