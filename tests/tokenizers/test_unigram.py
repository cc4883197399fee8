from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from stemma.errors import TokenizerError
from stemma.tokenizers.formats.sentencepiece_model import read, serialize
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

BOTCHAN = "tokenizers/sentencepiece/botchan_en_unigram_1000.model"
UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)


@pytest.fixture(scope="module")
def botchan(mirror: Callable[[str], Path]) -> UnigramTokenizer:
    tokenizer = read(mirror(BOTCHAN))
    assert isinstance(tokenizer, UnigramTokenizer)
    return tokenizer


def library(tokenizer: UnigramTokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))


def test_a_hand_worked_text() -> None:
    scores = {"▁": -1.0, "a": -2.0, "b": -3.0, "▁a": -2.5, "ab": -4.5, "▁ab": -7.0}
    tokenizer = UnigramTokenizer([UNKNOWN, *(Piece(*item) for item in scores.items())])
    # ▁ab: ▁a b = -5.5, ▁ ab = -5.5, ▁ a b = -6, ▁ab = -7: of the first two the longer last piece
    assert tokenizer.encode("ab").tolist() == [1, 5]
    assert [ids.tolist() for ids in tokenizer.n_best("ab", 9)][2:] == [[1, 2, 3], [6]]
    assert tokenizer.model.log_z("▁ab") == pytest.approx(
        math.log(2 * math.exp(-5.5) + math.exp(-6) + math.exp(-7))
    )
    assert tokenizer.encode("c").tolist() == [1, 0]
    assert tokenizer.model.unknown_score == -17.0


def test_the_bonus_of_a_user_defined_piece_grows_with_its_bytes() -> None:
    """The library's rule: (bytes - 1) / 10 in the best segmentation, (characters - 1) / 10 else."""
    for text in ("k", "kl", "klé", "k" * 20):
        user_defined = Piece(text, -5.0, Kind.USER_DEFINED)
        bonus = np.float32((len(text.encode()) - 1) / 10)
        for offset in (-1e-4, 1e-4):
            rival = Piece(text + "z", float(bonus) - 1 + offset)
            pieces = [UNKNOWN, user_defined, rival, Piece("z", -1.0), Piece("m", -3.0)]
            settings = SentencePieceSettings(add_dummy_prefix=False)
            tokenizer = UnigramTokenizer(pieces, settings)
            expected = [2] if offset > 0 else [1, 3]
            assert tokenizer.encode(text + "z").tolist() == expected
            assert library(tokenizer).encode(text + "z") == expected
            assert (
                tokenizer.n_best(text + "z", 2)[0].tolist()
                == (library(tokenizer).nbest_encode_as_ids(text + "z", 2)[0])
            )


def test_n_best_are_sentencepieces_in_its_order(
    botchan: UnigramTokenizer, awkward: list[str], random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    theirs = library(botchan)
    for text in [*awkward, *random_texts(100, 7), "ha " * 40]:
        for n in (1, 2, 10, 100):
            found = [ids.tolist() for ids in botchan.n_best(text, n)]
            assert found == theirs.nbest_encode_as_ids(text, n), (text, n)


def test_samples_of_a_text(botchan: UnigramTokenizer) -> None:
    generator = np.random.default_rng(3)
    text = "I am sure"
    best = botchan.encode(text).tolist()
    found = Counter(tuple(botchan.sample(text, generator).tolist()) for _ in range(300))
    assert len(found) > 2
    assert found[tuple(best)] > 150
    assert {botchan.decode(ids) for ids in found} == {text}
    # The colder, the more often it is the best.
    cold = [botchan.sample(text, generator, alpha=9.0).tolist() for _ in range(50)]
    assert cold.count(best) > 45
    assert botchan.sample(text, generator).dtype == np.int32
    same = [botchan.sample(text, np.random.default_rng(5)).tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_samples_of_the_n_best(botchan: UnigramTokenizer) -> None:
    generator = np.random.default_rng(4)
    text = "I am sure"
    best = [tuple(ids.tolist()) for ids in botchan.n_best(text, 3)]
    n = 3000
    found = Counter(
        tuple(botchan.sample(text, generator, alpha=0.5, n_best=3).tolist()) for _ in range(n)
    )
    assert found.keys() == set(best)
    scores = [score for _, score in botchan.lattice.n_best(botchan.rewrite(text), 3)]
    weights = np.exp(0.5 * np.array(scores))
    expected = n * weights / weights.sum()
    chi_square = sum((found[p] - e) ** 2 / e for p, e in zip(best, expected, strict=True))
    assert chi_square < 14  # two degrees of freedom: one in a thousand


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_a_temperature_that_is_none(botchan: UnigramTokenizer, alpha: float) -> None:
    with pytest.raises(TokenizerError, match="alpha is"):
        botchan.sample("a", np.random.default_rng(1), alpha=alpha)


def test_half_a_character_is_refused(botchan: UnigramTokenizer) -> None:
    generator = np.random.default_rng(1)
    for call in (
        botchan.encode,
        lambda t: botchan.n_best(t, 2),
        lambda t: botchan.sample(t, generator),
    ):
        with pytest.raises(TokenizerError, match="lone surrogate"):
            call("a\ud800")


@pytest.mark.parametrize("run", ["a", " ", "\n", "ab", "你", "😀", "▁", "e\u0301"])
def test_a_megabyte_of_one_letter(botchan: UnigramTokenizer, run: str) -> None:
    text = run * (1_000_000 // len(run.encode()))
    theirs = library(botchan)
    expected = theirs.encode(text, return_type="numpy")
    assert np.array_equal(botchan._text_encoder()([text])[0], expected)
    part = text[:20_000]
    normalized = botchan.rewrite(part)
    readable = [id_ for id_, _, _ in botchan._joined(normalized, botchan._segment(normalized))]
    assert readable == theirs.encode(part)


def test_a_vocabulary_in_which_nothing_is_found() -> None:
    with pytest.raises(TokenizerError, match="no piece of the vocabulary is ever found"):
        UnigramTokenizer([UNKNOWN])


def test_training_gives_a_tokenizer_that_loses_nothing() -> None:
    text = "the cat sat on the mat, the rat sat on the hat.\n" * 20
    tokenizer = UnigramTokenizer.train([text], 300, special_tokens=["<s>"], allow_fewer=True)
    assert tokenizer.special_tokens == {"<s>": 1}
    assert tokenizer.pieces[2].text == "<0x00>"
    for strange in (text, "the   dog\tat 9 é你😀 <s>", ""):
        assert tokenizer.decode(tokenizer.encode(strange)) == strange
    assert "▁the" in [piece.text for piece in tokenizer.pieces]
    assert library(tokenizer).encode(text) == tokenizer.encode(text).tolist()
    with pytest.raises(TokenizerError, match="vocab_size=258"):
        UnigramTokenizer.train([text], 258)
    suffix = SentencePieceSettings(treat_whitespace_as_suffix=True)
    with pytest.raises(TokenizerError, match="with their space"):
        UnigramTokenizer.train([text], 300, settings=suffix)
