"""T5 and Marian: the encoder-decoders of `transformers`, both ways, with padding and caches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import TOLERANCE, build_random, source_and_target, theirs
from tiny_encoder_decoders import marian, marians, t5, t5s

from stemma.errors import ModelError
from stemma.models import EncoderDecoderConfig
from stemma.models.encoder_decoder_config import original
from stemma.models.families import FAMILIES, family_for, family_of

DRAW = {"t5": t5s, "marian": marians}
TINY = {"t5": t5, "marian": marian}
NAMES = pytest.mark.parametrize("name", DRAW)


@NAMES
@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 100))
@torch.no_grad()
def test_step_by_step_with_caches_too(name: str, data: st.DataObject, seed: int) -> None:
    model = build_random(data.draw(DRAW[name]()), seed)
    other = theirs(name, model)
    ids = source_and_target(model.config, seed)
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
@torch.no_grad()
def test_alignments_equal_those_of_transformers(name: str) -> None:
    config = TINY[name]()
    model = build_random(config)
    other = theirs(name, model)
    other.set_attn_implementation("eager")
    ids = source_and_target(config, 3)
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


@NAMES
def test_older_files_hold_the_embedding_several_times(name: str) -> None:
    config = TINY[name]()
    family = FAMILIES[name]
    config_json, tensors = family.to_huggingface(config, build_random(config).state_dict())
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
