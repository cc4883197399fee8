"""A Unigram model word by word; `test_huggingface` compares it with the library's on real files."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.steps import decoders
from stemma.tokenizers.steps.pre_tokenizers import Metaspace
from stemma.tokenizers.unigram.wordwise import WordwiseUnigram

PIECES = [
    ("<unk>", 0.0),
    ("▁", -2.0),
    ("a", -2.5),
    ("b", -3.0),
    ("ab", -4.0),
    ("▁ab", -6.5),
    ("ba", -5.6),
]


def build(*, byte_fallback: bool = False, unknown: int | None = 0) -> WordwiseUnigram:
    pieces = PIECES + [(f"<0x{v:02X}>", -9.0) for v in range(256)] * byte_fallback
    return WordwiseUnigram(
        pieces,
        unknown,
        {"</s>": len(pieces)},
        byte_fallback=byte_fallback,
        pre_tokenizer=Metaspace(),
        decoder=decoders.Metaspace(),
    )


def test_by_hand() -> None:
    """▁ ab: -2 - 4 = -6 beats ▁ab: -6.5 and ▁ a b: -7.5; and so on."""
    tokenizer = build()
    assert tokenizer.encode("ab").tolist() == [1, 4]
    assert tokenizer.encode("ba ab").tolist() == [1, 3, 2, 1, 4]
    assert tokenizer.encode("axyb").tolist() == [1, 2, 0, 3]  # what no piece spells is one token
    assert tokenizer.decode(tokenizer.encode("ba ab")) == "ba ab"
    assert tokenizer.vocab_size == 8
    assert tokenizer.encode("a</s>", allowed_special="all").tolist() == [1, 2, 7]
    assert 7 not in tokenizer.encode("a</s>")


@given(st.text("ab", min_size=1, max_size=7))
def test_no_other_way_to_cut_a_word_is_likelier(word: str) -> None:
    scores = dict(PIECES[1:])
    text = "▁" + word
    best = -math.inf
    for cuts in product((False, True), repeat=len(text) - 1):
        parts, start = [], 0
        for at in [i + 1 for i, cut in enumerate(cuts) if cut] + [len(text)]:
            parts.append(text[start:at])
            start = at
        best = max(best, sum(scores.get(part, -math.inf) for part in parts))
    ids = build().encode(word).tolist()
    assert math.isclose(sum(PIECES[i][1] for i in ids), best)


def test_unknown_characters_become_bytes_where_there_are_bytes() -> None:
    tokenizer = build(byte_fallback=True)
    first = len(PIECES)
    assert tokenizer.encode("aé").tolist() == [1, 2, first + 0xC3, first + 0xA9]
    ids, spans = tokenizer.encode_with_offsets("aé b")
    assert ids.tolist() == [1, 2, first + 0xC3, first + 0xA9, 1, 3]
    assert spans.tolist() == [[0, 0], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


def test_unknown_characters_have_one_span() -> None:
    ids, spans = build().encode_with_offsets("aéüb")
    assert ids.tolist() == [1, 2, 0, 3]
    assert spans.tolist() == [[0, 0], [0, 1], [1, 5], [5, 6]]


def test_without_a_piece_for_them_they_are_an_error() -> None:
    with pytest.raises(TokenizerError, match="no pieces spell 'é'"):
        build(unknown=None).encode("aé")


def test_what_contradicts_itself_is_refused() -> None:
    steps = {"pre_tokenizer": Metaspace(), "decoder": decoders.Metaspace()}
    with pytest.raises(TokenizerError, match="the piece 'a' comes twice"):
        WordwiseUnigram([("a", 0.0), ("a", 0.0)], None, **steps)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="there is no piece 2"):
        WordwiseUnigram([("a", 0.0)], 2, **steps)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="piece 0 is empty"):
        WordwiseUnigram([("", 0.0)], None, **steps)  # type: ignore[arg-type]


def test_samples_are_as_likely_as_their_scores() -> None:
    """The ways to cut "ab": ▁ab -6.5, ▁ ab -6, ▁ a b -7.5."""
    tokenizer, generator = build(), np.random.default_rng(3)
    scores = {(5,): -6.5, (1, 4): -6.0, (1, 2, 3): -7.5}
    for alpha in (0.0, 0.3, 1.0, 3.0):
        drawn = (tokenizer.sample("ab", generator, alpha=alpha).tolist() for _ in range(3000))
        counts = Counter(map(tuple, drawn))
        weights = {ids: math.exp(alpha * score) for ids, score in scores.items()}
        assert counts.keys() == weights.keys()
        for ids, weight in weights.items():
            assert counts[ids] / 3000 == pytest.approx(weight / sum(weights.values()), abs=0.04)
    assert tokenizer.sample("ba ab", generator, alpha=200.0).tolist() == [1, 3, 2, 1, 4]
    with pytest.raises(TokenizerError, match="generator is 3"):
        tokenizer.sample("ab", 3)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="alpha is -1"):
        tokenizer.sample("ab", generator, alpha=-1)
