"""Beam search against transformers, and against looking at every text."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from stemma.errors import ModelError
from stemma.hub import save_model
from stemma.inference import Beam, SamplingConfig, beam_search, generate_ids, gnmt_penalty
from stemma.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
MODEL = tiny_model(vocab_size=5, context_length=12)


def log_prob_of(prompt: list[int], ids: tuple[int, ...]) -> float:
    text = torch.tensor([[*prompt, *ids]])
    with torch.no_grad():
        return float(MODEL.token_log_probs(text)[0, len(prompt) - 1 :].sum())


def every_text(n: int, end_id: int) -> list[tuple[int, ...]]:
    """All texts of ``n`` ids, or that end before."""
    texts = set()
    for ids in product(range(5), repeat=n):
        ends = [i for i, id_ in enumerate(ids) if id_ == end_id]
        texts.add(ids[: ends[0] + 1] if ends else ids)
    return sorted(texts)


@settings(max_examples=10)
@given(
    prompt=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    alpha=st.sampled_from([0.0, 0.6, 2.0]),
    end_id=st.integers(0, 4),
)
def test_wide_enough_it_finds_the_best_of_all(prompt: list[int], alpha: float, end_id: int) -> None:
    found = beam_search(
        *(MODEL, prompt),
        n_beams=200,
        max_new_tokens=3,
        end_ids=[end_id],
        penalty=gnmt_penalty(alpha),
    )
    scored = [
        (log_prob_of(prompt, ids) / ((5 + len(ids)) / 6) ** alpha, ids)
        for ids in every_text(3, end_id)
    ]
    scored.sort(reverse=True)
    assert len(found) == len(scored)
    assert [beam.ids for beam in found[:5]] == [ids for _, ids in scored[:5]]
    assert [beam.score for beam in found] == pytest.approx([s for s, _ in scored], abs=1e-4)


@settings(max_examples=15)
@given(prompt=st.lists(st.integers(0, 4), min_size=1, max_size=5), end_id=st.integers(0, 4))
def test_one_beam_is_greedy(prompt: list[int], end_id: int) -> None:
    greedy = generate_ids(
        *(MODEL, prompt),
        max_new_tokens=9,
        sampling=SamplingConfig(temperature=0),
        stop_ids=[end_id],
    )
    found = beam_search(MODEL, prompt, n_beams=1, max_new_tokens=9, end_ids=[end_id])
    assert found[0].ids == tuple(greedy)
    assert found[0].log_prob == pytest.approx(log_prob_of(prompt, found[0].ids), abs=1e-4)


class Uncached:
    vocab_size, context_length = 5, 12

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return MODEL.next_log_probs(ids)


def test_with_and_without_a_cache() -> None:
    options: dict[str, Any] = {"n_beams": 4, "max_new_tokens": 8, "end_ids": [2]}
    cached, uncached = (beam_search(m, [1, 3], **options) for m in (MODEL, Uncached()))
    assert [beam.ids for beam in cached] == [beam.ids for beam in uncached]
    assert len({beam.ids[0] for beam in cached}) > 1 or len(cached) == 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    norm = {"kind": "rms_norm"}
    model = tiny_model(
        vocab_size=BYTES.vocab_size,
        norm=norm,
        attention={"n_heads": 4, "n_kv_heads": 2, "bias": False},
        feedforward={"kind": "gated", "d_ff": 24},
    )
    place: Path = save_model(model, BYTES, tmp_path_factory.mktemp("beam") / "model")
    return model, AutoModelForCausalLM.from_pretrained(place).eval()


@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("n_beams", [2, 5])
@pytest.mark.parametrize("ends", [[], [101], [32, 101, 7]])
def test_beams_are_those_of_transformers(
    pair: tuple[Any, Any], alpha: float, n_beams: int, ends: list[int]
) -> None:
    ours, theirs = pair
    prompt = [*b"beam"]
    wanted = theirs.generate(
        torch.tensor([prompt]),
        num_beams=n_beams,
        num_return_sequences=n_beams,
        max_new_tokens=20,
        do_sample=False,
        early_stopping="never",
        length_penalty=alpha,
        eos_token_id=ends or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = beam_search(
        *(ours, prompt),
        n_beams=n_beams,
        max_new_tokens=20,
        end_ids=ends,
        penalty=lambda n: float(n**alpha),
    )
    scores = [beam.score for beam in found]
    assert scores == pytest.approx(wanted.sequences_scores.tolist(), abs=1e-3)
    for beam, row in zip(found, wanted.sequences.tolist(), strict=True):
        assert [*beam.ids] == row[4 : 4 + len(beam.ids)]


def test_the_penalty_of_gnmt_by_hand() -> None:
    assert gnmt_penalty(0.6)(7) == pytest.approx(2**0.6)
    assert gnmt_penalty(0.0)(100) == 1


def test_no_new_ids_find_nothing_and_a_full_context_ends_it() -> None:
    assert beam_search(MODEL, [1], max_new_tokens=0) == []
    found = beam_search(MODEL, [1] * 11, n_beams=2, max_new_tokens=9)
    assert [len(beam.ids) for beam in found] == [2, 2]
    assert all(isinstance(beam, Beam) for beam in found)


def test_errors() -> None:
    with pytest.raises(ModelError, match="n_beams=0"):
        beam_search(MODEL, [1], n_beams=0, max_new_tokens=1)
    with pytest.raises(ModelError, match="the prompt is empty"):
        beam_search(MODEL, [], max_new_tokens=1)
