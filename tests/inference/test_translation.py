"""Greedy targets of an encoder-decoder: against `transformers`, alone and together, saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma import load
from stemma.errors import ModelError
from stemma.hub import load_model, save_model
from stemma.inference import CachedModel, SamplingConfig, beam_search, generate_ids, translate_ids
from stemma.models import EncoderDecoder, EncoderDecoderConfig, LanguageModel, TransformerConfig
from stemma.models.config_facts import resolved
from stemma.models.encoder_decoder_config import encoder_decoder, original
from stemma.tokenizers import ByteTokenizer

VOCAB = 257
_GREEDY = SamplingConfig(temperature=0)


def t5() -> EncoderDecoderConfig:
    values = {
        "vocab_size": VOCAB,
        "context_length": 20,
        "d_model": 16,
        "n_layers": 2,
        "attention": {"n_heads": 2, "bias": False, "scale": 1.0},
        "feedforward": {"kind": "mlp", "d_ff": 24, "activation": "relu", "bias": False},
        "norm": {"kind": "rms_norm"},
        "position": {"kind": "relative_buckets"},
        "head": {"kind": "linear", "scaled": True},
    }
    return encoder_decoder(TransformerConfig.parse(values), start_id=7)


def built(config: EncoderDecoderConfig, seed: int = 0) -> EncoderDecoder:
    model = EncoderDecoder(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.7 * noise)
    return model


@pytest.fixture(scope="module")
def model() -> EncoderDecoder:
    return built(t5())


@settings(max_examples=20)
@given(
    sources=st.lists(
        st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=4
    ),
    stops=st.sets(st.integers(0, VOCAB - 1), max_size=60),
    max_new_tokens=st.integers(0, 9),
)
def test_each_target_is_what_it_is_alone_by_any_way(
    model: EncoderDecoder, sources: list[list[int]], stops: set[int], max_new_tokens: int
) -> None:
    together = translate_ids(model, sources, max_new_tokens=max_new_tokens, stop_ids=stops)
    for source, target in zip(sources, together, strict=True):
        conditional = model.given(torch.tensor([source]))
        assert isinstance(conditional, CachedModel)
        assert isinstance(conditional, LanguageModel)
        for cached in (True, False):
            alone = generate_ids(
                conditional,
                [7],
                max_new_tokens=max_new_tokens,
                stop_ids=stops,
                sampling=_GREEDY,
                cached=cached,
            )
            assert list(alone) == target


def test_it_is_what_transformers_generates(model: EncoderDecoder, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    directory = save_model(model, tokenizer, tmp_path / "model")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory)
    assert theirs.generation_config.decoder_start_token_id == 7
    torch.manual_seed(0)
    sources = [torch.randint(VOCAB - 1, (n,)).tolist() for n in (5, 9, 2)]
    ours = translate_ids(model, sources, max_new_tokens=12)
    for source, target in zip(sources, ours, strict=True):
        theirs.generation_config.eos_token_id = None
        found = theirs.generate(torch.tensor([source]), max_new_tokens=12, do_sample=False)
        assert found[0].tolist() == [7, *target]
    assert len({tuple(target) for target in ours}) == 3


def test_beams_are_those_of_transformers(model: EncoderDecoder, tmp_path: Path) -> None:
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        save_model(model, ByteTokenizer(), tmp_path / "model")
    )
    theirs.generation_config.eos_token_id = None
    source = torch.tensor([[3, 1, 4, 1, 5]])
    beams = beam_search(model.given(source), [7], n_beams=3, max_new_tokens=8)
    found = theirs.generate(
        source, max_new_tokens=8, num_beams=3, do_sample=False, num_return_sequences=3
    )
    assert [[7, *beam.ids] for beam in beams] == found.tolist()
    greedy = translate_ids(model, source.tolist(), max_new_tokens=8)[0]
    assert beam_search(model.given(source), [7], n_beams=1, max_new_tokens=8)[0].ids == tuple(
        greedy
    )


def test_saved_and_opened_it_is_the_same(model: EncoderDecoder, tmp_path: Path) -> None:
    directory = save_model(model, ByteTokenizer(), tmp_path / "model")
    again = load_model(directory)
    assert isinstance(again, EncoderDecoder)
    assert resolved(again.config) == resolved(model.config)
    states = again.state_dict()
    assert states.keys() == model.state_dict().keys()
    assert all(torch.equal(states[name], value) for name, value in model.state_dict().items())
    assert again.decoder.head.weight is again.encoder.embed.tokens.weight
    assert load_model(directory, dtype=torch.bfloat16).decoder.head.weight.dtype == torch.bfloat16
    with pytest.raises(ModelError, match=r"(?s)is an encoder-decoder.*translate_ids"):
        load(directory)


def test_a_model_that_no_family_expresses_is_not_saved(tmp_path: Path) -> None:
    papers = built(original(vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=8))
    with pytest.raises(ModelError, match="no family expresses this encoder-decoder"):
        save_model(papers, ByteTokenizer(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_mode_of_training_is_left_as_it_was() -> None:
    config = original(vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=8, dropout=0.5)
    noisy = built(config).train()
    first = translate_ids(noisy, [[1, 2, 3]], max_new_tokens=8)
    assert first == translate_ids(noisy, [[1, 2, 3]], max_new_tokens=8)
    assert all(part.training for part in noisy.modules())


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "no sources"),
        ([[1], []], "a source is empty"),
        ([[VOCAB]], f"id {VOCAB} is outside"),
        ([[1] * 21], "21 positions, and the model's context holds 20"),
    ],
)
def test_bad_sources_are_named(
    model: EncoderDecoder, sources: list[list[int]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        translate_ids(model, sources, max_new_tokens=3)


def test_padding_of_the_vocabulary_is_never_chosen(model: EncoderDecoder) -> None:
    (target,) = translate_ids(model, [[1, 2, 3]], max_new_tokens=20, n_ids=5)
    assert len(target) == 20
    assert max(target) < 5
