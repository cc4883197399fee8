"""T5 and Marian: the encoder-decoders of `transformers`, both ways, with padding and caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from stemma.errors import ModelError
from stemma.models import EncoderDecoder, EncoderDecoderConfig, TransformerConfig
from stemma.models.encoder_decoder_config import encoder_decoder, original
from stemma.models.families import FAMILIES, family_for, family_of
from stemma.models.family import Family

Build = Callable[..., EncoderDecoderConfig]
TOLERANCE = 1e-4


def t5(*, first: bool = True, gated: bool | None = None, **changes: Any) -> EncoderDecoderConfig:
    gated = not first if gated is None else gated
    shape = {"kind": "gated"} if gated else {"kind": "mlp", "bias": False}
    activation = changes.pop("activation", "gelu_tanh" if gated else "relu")
    n_decoder_layers = changes.pop("n_decoder_layers", None)
    values = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": {"n_heads": 2, "d_head": 6, "bias": False, "scale": 1.0},
        "feedforward": {**shape, "d_ff": 12, "activation": activation},
        "norm": {"kind": "rms_norm"},
        "position": {"kind": "relative_buckets", "n_buckets": 8, "max_distance": 6},
        "head": {"kind": "linear", "scaled": first},
        "tie_embeddings": first,
        **changes,
    }
    return encoder_decoder(TransformerConfig.parse(values), n_decoder_layers=n_decoder_layers)


def marian(**changes: Any) -> EncoderDecoderConfig:
    values = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": {"n_heads": 2},
        "feedforward": {"kind": "mlp", "d_ff": 12, "activation": "silu"},
        "position": {"kind": "sinusoidal", "halves": True},
        "placement": "post",
        "head": {"kind": "linear", "bias": True},
        "scale_embeddings": True,
        **changes,
    }
    start_id = values.pop("start_id", 0)
    n_decoder_layers = values.pop("n_decoder_layers", None)
    common = TransformerConfig.parse(values)
    return encoder_decoder(common, n_decoder_layers=n_decoder_layers, start_id=start_id)


@st.composite
def t5s(draw: st.DrawFn) -> EncoderDecoderConfig:
    n_heads = draw(st.integers(1, 3))
    gated = draw(st.booleans())
    names = ["relu", "silu", "gelu_tanh"] if gated else ["relu", "silu", "gelu", "gelu_tanh"]
    buckets = draw(st.sampled_from([4, 8, 32]))
    return t5(
        first=draw(st.booleans()),
        gated=gated,
        activation=draw(st.sampled_from(names)),
        vocab_size=draw(st.integers(2, 40)),
        d_model=draw(st.integers(1, 12)),
        n_layers=draw(st.integers(1, 2)),
        n_decoder_layers=draw(st.integers(1, 2)),
        attention={
            "n_heads": n_heads,
            "d_head": draw(st.sampled_from([1, 4, 6])),
            "bias": False,
            "scale": 1.0,
        },
        norm={"kind": "rms_norm", "eps": draw(st.sampled_from([1e-6, 1e-3]))},
        position={
            "kind": "relative_buckets",
            "n_buckets": buckets,
            "max_distance": buckets + draw(st.integers(1, 9)),
        },
    )


@st.composite
def marians(draw: st.DrawFn) -> EncoderDecoderConfig:
    n_heads = draw(st.integers(1, 3))
    vocab_size = draw(st.integers(2, 40))
    config = marian(
        vocab_size=vocab_size,
        d_model=2 * n_heads * draw(st.integers(1, 4)),
        n_layers=draw(st.integers(1, 2)),
        n_decoder_layers=draw(st.integers(1, 2)),
        attention={"n_heads": n_heads},
        feedforward={
            "kind": "mlp",
            "d_ff": draw(st.integers(1, 20)),
            "activation": draw(st.sampled_from(["relu", "silu", "gelu"])),
        },
        scale_embeddings=draw(st.booleans()),
        start_id=draw(st.integers(0, vocab_size - 1)),
    )
    if draw(st.booleans()):
        return config
    decoder = config.decoder.replace(vocab_size=vocab_size + 3)
    return config.replace(share_embeddings=False, decoder=decoder.model_dump())


DRAW = {"t5": t5s, "marian": marians}
TINY: dict[str, Build] = {"t5": t5, "marian": marian}
NAMES = pytest.mark.parametrize("name", DRAW)


def built(config: EncoderDecoderConfig, seed: int = 0) -> EncoderDecoder:
    model = EncoderDecoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + noise if "norm" in name else noise)
    return model


def theirs(family: Family[Any], config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    with TemporaryDirectory() as directory:
        save_file(tensors, Path(directory, "model.safetensors"), metadata={"format": "pt"})
        Path(directory, "config.json").write_text(json.dumps({**config_json, "eos_token_id": None}))
        model, found = getattr(transformers, family.architecture).from_pretrained(
            directory, output_loading_info=True
        )
    assert not any(found.values()), found
    return model.eval()


def rows(config: EncoderDecoderConfig, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (2,), generator=generator)
    return {
        "source": torch.randint(
            config.encoder.vocab_size, (2, int(lengths.max())), generator=generator
        ),
        "target": torch.randint(config.decoder.vocab_size, (2, 5), generator=generator),
        "mask": torch.arange(int(lengths.max())) < lengths[:, None],
    }


@torch.no_grad()
def drift(model: EncoderDecoder, other: Any, ids: dict[str, Tensor]) -> tuple[float, float]:
    """Largest difference of a logit, and mean KL divergence (nats) of the predictions."""
    mine = model(ids["source"], ids["target"], source_mask=ids["mask"])
    others = other(
        input_ids=ids["source"],
        attention_mask=ids["mask"].long(),
        decoder_input_ids=ids["target"],
    ).logits
    p, q = mine.double().log_softmax(-1), others.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return float((mine - others).abs().max()), float(kl)


@NAMES
@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 100))
def test_logits_equal_those_of_transformers(name: str, data: st.DataObject, seed: int) -> None:
    config = data.draw(DRAW[name]())
    model = built(config, seed)
    other = theirs(FAMILIES[name], *FAMILIES[name].to_huggingface(config, model.state_dict()))
    ids = rows(config, seed)
    difference, kl = drift(model, other, ids)
    assert difference < TOLERANCE
    assert kl < 1e-7
    with torch.no_grad():
        conditional = model.given(ids["source"], source_mask=ids["mask"])
        cache, past, encoded = conditional.new_cache(2), None, None
        for i in range(ids["target"].shape[1]):
            step = ids["target"][:, i : i + 1]
            ours = conditional.head(conditional.hidden_states(step, cache=cache))
            found = other(
                input_ids=ids["source"],
                attention_mask=ids["mask"].long(),
                encoder_outputs=encoded,
                decoder_input_ids=step,
                past_key_values=past,
                use_cache=True,
            )
            past, encoded = found.past_key_values, (found.encoder_last_hidden_state,)
            assert (ours - found.logits).abs().max() < TOLERANCE


@NAMES
def test_alignments_equal_those_of_transformers(name: str) -> None:
    config = TINY[name]()
    model = built(config)
    other = theirs(FAMILIES[name], *FAMILIES[name].to_huggingface(config, model.state_dict()))
    other.set_attn_implementation("eager")
    ids = rows(config, 3)
    found = model.alignments(ids["source"], ids["target"], source_mask=ids["mask"])
    expected = other(
        input_ids=ids["source"],
        attention_mask=ids["mask"].long(),
        decoder_input_ids=ids["target"],
        output_attentions=True,
    ).cross_attentions
    assert len(found) == len(expected) == 2
    for ours, others in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, others, atol=1e-5, rtol=1e-4)
        assert (ours.masked_select(~ids["mask"][:, None, None]) == 0).all()
    assert not any(part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("name", "build"), [("t5", t5), ("t5", lambda: t5(first=False)), ("marian", marian)]
)
def test_the_comparison_can_fail(name: str, build: Build) -> None:
    """A change of any parameter shows; but a bias of keys adds the same to every score of a row."""
    config = build()
    model = built(config)
    other = theirs(FAMILIES[name], *FAMILIES[name].to_huggingface(config, model.state_dict()))
    generator = torch.Generator().manual_seed(9)
    ids = rows(config, 1)
    for name_, parameter in model.named_parameters():
        if name_.endswith("k_proj.bias"):
            continue
        kept = parameter.clone()
        parameter.add_(torch.randn(kept.shape, generator=generator))
        difference, kl = drift(model, other, ids)
        assert difference > 10 * TOLERANCE, name_
        assert kl > 1e-6, name_
        parameter.copy_(kept)
    assert drift(model, other, ids)[0] < TOLERANCE


def their_t5(first: bool) -> Any:
    config = transformers.T5Config(
        vocab_size=23,
        d_model=8,
        d_kv=6,
        d_ff=12,
        num_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=6,
        n_positions=9,
        feed_forward_proj="relu" if first else "gated-gelu",
        tie_word_embeddings=first,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config)
    if not first:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(23, 8))
    return model


def their_marian() -> Any:
    config = transformers.MarianConfig(
        vocab_size=23,
        d_model=8,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_position_embeddings=9,
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=22,
        decoder_start_token_id=22,
    )
    model = transformers.MarianMTModel(config)
    model.final_logits_bias.normal_()
    return model


@pytest.mark.parametrize(
    ("name", "build", "config"),
    [
        ("t5", lambda: their_t5(True), t5()),
        ("t5", lambda: their_t5(False), t5(first=False)),
        ("marian", their_marian, marian(start_id=22)),
    ],
)
def test_round_trip_is_identical_to_the_bit(
    name: str, build: Callable[[], Any], config: EncoderDecoderConfig, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    other = build()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    other.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    family = FAMILIES[name]
    read, state = family.from_huggingface(json.loads((tmp_path / "config.json").read_text()), saved)
    assert read == config
    model = EncoderDecoder(read)
    model.load_state_dict(state, strict=False)
    ids = rows(read, 0)
    other = type(other).from_pretrained(tmp_path)
    assert drift(model.eval(), other.eval(), ids)[0] < TOLERANCE
    config_json, tensors = family.to_huggingface(read, model.state_dict())
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)
    assert family.read_config(config_json) == read


@NAMES
def test_older_files_hold_the_embedding_several_times(name: str) -> None:
    config = TINY[name]()
    family = FAMILIES[name]
    config_json, tensors = family.to_huggingface(config, built(config).state_dict())
    shared = next(tensor for key, tensor in tensors.items() if key.endswith("shared.weight"))
    prefix = "" if name == "t5" else "model."
    names = [f"{prefix}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    everything = {**tensors, **dict.fromkeys([*names, "lm_head.weight"], shared)}
    if name == "marian":
        everything["model.encoder.embed_positions.weight"] = torch.zeros(9, 8)
    else:
        key = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        everything[key] = torch.zeros(8, 2)
    _, state = family.from_huggingface(config_json, everything)
    assert torch.equal(state["encoder.embed.tokens.weight"], shared)
    for key in (*names, "lm_head.weight"):
        with pytest.raises(ModelError, match=f"{key} differs from it"):
            family.from_huggingface(config_json, {**everything, key: shared + 1})
    with pytest.raises(ModelError, match=r"not part of this model: decoder\.nonsense"):
        family.from_huggingface(config_json, {**everything, "decoder.nonsense": shared})


# The keys of Helsinki-NLP/opus-mt-en-de, most of which its classes do not look at.
OPUS: dict[str, Any] = {
    "_name_or_path": "Helsinki-NLP/opus-mt-en-de",
    "_num_labels": 3,
    "activation_dropout": 0.0,
    "activation_function": "swish",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "architectures": ["MarianMTModel"],
    "attention_dropout": 0.0,
    "bad_words_ids": [[58100]],
    "bos_token_id": 0,
    "classif_dropout": 0.0,
    "classifier_dropout": 0.0,
    "d_model": 512,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 6,
    "decoder_start_token_id": 58100,
    "decoder_vocab_size": 58101,
    "dropout": 0.1,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 6,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "label2id": {"LABEL_0": 0},
    "max_length": 512,
    "max_position_embeddings": 512,
    "model_type": "marian",
    "normalize_before": False,
    "normalize_embedding": False,
    "num_beams": 6,
    "num_hidden_layers": 6,
    "pad_token_id": 58100,
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "static_position_embeddings": True,
    "transformers_version": "4.22.0.dev0",
    "use_cache": True,
    "vocab_size": 58101,
}


def test_opus_mts_config_is_read() -> None:
    config = FAMILIES["marian"].read_config(OPUS)
    assert config.start_id == 58100
    with torch.device("meta"):
        ours = config.build()
        other = transformers.MarianMTModel(transformers.MarianConfig(**OPUS))
    theirs_ = {id(p): p.numel() for n, p in other.named_parameters() if "embed_positions" not in n}
    # The bias of the logits is a buffer there.
    assert ours.n_parameters() == sum(theirs_.values()) + 58101


def test_t5_smalls_config_is_read() -> None:
    """The keys of google-t5/t5-small."""
    config = FAMILIES["t5"].read_config(
        {
            "architectures": ["T5ForConditionalGeneration"],
            "d_ff": 2048,
            "d_kv": 64,
            "d_model": 512,
            "decoder_start_token_id": 0,
            "dropout_rate": 0.1,
            "eos_token_id": 1,
            "initializer_factor": 1.0,
            "is_encoder_decoder": True,
            "layer_norm_epsilon": 1e-06,
            "model_type": "t5",
            "n_positions": 512,
            "num_heads": 8,
            "num_layers": 6,
            "output_past": True,
            "pad_token_id": 0,
            "relative_attention_num_buckets": 32,
            "task_specific_params": {"summarization": {"num_beams": 4}},
            "vocab_size": 32128,
        }
    )
    with torch.device("meta"):
        assert config.build().n_parameters() == 60_506_624


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("t5", "feed_forward_proj", "gated-tanh"),
        ("t5", "is_encoder_decoder", False),
        ("t5", "is_decoder", True),
        ("marian", "normalize_before", True),
        ("marian", "add_final_layer_norm", True),
        ("marian", "tie_word_embeddings", False),
        ("marian", "is_decoder", True),
    ],
)
def test_what_config_json_asks_for_and_we_cannot_do_is_named(
    name: str, key: str, value: Any
) -> None:
    config_json = {**FAMILIES[name].write_config(TINY[name]()), key: value}
    with pytest.raises(ModelError, match=f"{key} = .*{name}"):
        FAMILIES[name].read_config(config_json)


def test_each_belongs_to_its_family_and_the_papers_model_to_none() -> None:
    assert family_of(t5()) is FAMILIES["t5"]
    assert family_of(t5(first=False)) is FAMILIES["t5"]
    assert family_of(marian()) is FAMILIES["marian"]
    assert FAMILIES["t5"].write_config(t5(first=False))["feed_forward_proj"] == "gated-gelu"
    training = {"n_heads": 2, "n_kv_heads": 2, "dropout": 0.1}
    assert family_of(marian(attention=training, dropout=0.1)) is FAMILIES["marian"]
    with pytest.raises(ModelError, match=r"the kind of model = 'EncoderDecoderConfig'"):
        FAMILIES["llama"].write_config(t5())
    with pytest.raises(ModelError, match=r"the kind of model = 'TransformerConfig'"):
        FAMILIES["t5"].write_config(t5().decoder)
    with pytest.raises(ModelError, match=r"t5 not with decoder\.position\.kind.*marian not with"):
        family_for(original(vocab_size=23, d_model=8, n_heads=2))


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("t5", t5(n_layers=2, first=True, head={"kind": "linear"}), "tie_embeddings"),
        ("t5", t5(scale_embeddings=True), "scale_embeddings"),
        ("t5", t5(attention={"n_heads": 2, "bias": False}), "scale"),
        ("t5", t5(gated=True, activation="gelu"), "activation"),
        ("marian", marian(position={"kind": "sinusoidal"}), "position.halves"),
        ("marian", marian(head={"kind": "linear"}), "head.bias"),
        ("marian", marian(placement="pre"), "placement"),
    ],
)
def test_what_they_cannot_express_is_named(
    name: str, config: EncoderDecoderConfig, field: str
) -> None:
    with pytest.raises(ModelError) as caught:
        FAMILIES[name].write_config(config)
    assert field in str(caught.value)
