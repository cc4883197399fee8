"""Training of the Unigram model from end to end, and against sentencepiece."""

from __future__ import annotations

import gzip
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.unigram.train import cover, train_unigram
from stemma.tokenizers.unigram.words import count_unigram_words

WORDS = st.dictionaries(
    st.text("abc▁ü", min_size=1, max_size=9), st.integers(1, 50), min_size=1, max_size=15
)


@pytest.fixture(scope="session")
def sherlock(mirror: Callable[[str], Path]) -> Counter[str]:
    return count_unigram_words([mirror("text/sherlock.txt").read_text("utf-8")])


def test_a_hand_worked_vocabulary() -> None:
    # Of abc (60 times) and ab (20) remain the characters, abc and ab: bc occurs only within abc.
    # Each word is then one piece. The characters count 1/2 each, so that there are 81.5.
    pieces = dict(train_unigram({"abc": 60, "ab": 20}, 5))
    assert set(pieces) == {"a", "b", "c", "abc", "ab"}
    assert math.exp(pieces["abc"]) == pytest.approx(60 / 81.5, rel=0.01)
    assert math.exp(pieces["ab"]) == pytest.approx(20 / 81.5, rel=0.01)


def test_a_piece_of_no_use_goes_first() -> None:
    pieces = [piece for piece, _ in train_unigram({"abcd": 50, "ab": 3, "cd": 40}, 6)]
    assert {"abcd", "cd"} <= set(pieces)
    assert "ab" not in pieces


@given(WORDS, st.integers(0, 8), st.booleans())
def test_what_every_vocabulary_promises(words: dict[str, int], more: int, digamma: bool) -> None:
    characters = set("".join(words))
    size = len(characters) + more
    learned = train_unigram(
        words, size, min_count=2, max_piece_length=4, digamma=digamma, allow_fewer=True
    )
    pieces = dict(learned)
    assert len(pieces) == len(learned) <= size
    assert characters <= set(pieces)
    assert all(any(piece in word for word in words) and len(piece) <= 4 for piece in pieces)
    assert math.fsum(map(math.exp, pieces.values())) == pytest.approx(1)
    assert learned == sorted(learned, key=lambda one: (-round(one[1], 6), one[0]))


@pytest.mark.parametrize("size", [100, 500, 2_000])
def test_the_size_is_exact(sherlock: Counter[str], size: int) -> None:
    assert len(train_unigram(sherlock, size)) == size


def test_the_order_of_words_does_not_matter(sherlock: Counter[str]) -> None:
    shuffled = list(sherlock.items())
    random.Random(1).shuffle(shuffled)
    assert train_unigram(dict(shuffled), 500) == train_unigram(sherlock, 500)


def test_both_forms_learn_the_same(sherlock: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = dict(sherlock.most_common(1_500))
    fast, slow = (
        dict(_train_with(words, machine_code, monkeypatch)) for machine_code in (True, False)
    )
    assert list(fast) == list(slow)
    assert list(fast.values()) == pytest.approx(list(slow.values()), abs=1e-9)


def _train_with(
    words: Mapping[str, int], machine_code: bool, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, float]]:
    monkeypatch.setattr(kernels, "worth", lambda _: machine_code)
    return train_unigram(words, 300)


def test_a_megabyte_of_one_letter() -> None:
    pieces = train_unigram({"a" * 1_000_000: 1}, 10)
    assert len(pieces) == 10
    assert pieces[0][0] == "a" * 16


def test_required_pieces_are_there() -> None:
    # One occurs and is of little use, one occurs once, one never, one with characters never met.
    required = ["bc", "abcab", "ba", "日本", "é"]
    pieces = dict(train_unigram({"abcab": 2, "abc": 9}, 9, required=required))
    assert {*required, "a", "b", "c"} < set(pieces)
    assert len(pieces) == 9
    assert {"日", "本"}.isdisjoint(pieces)
    assert pieces["日本"] == pieces["é"] == pieces["ba"]
    assert math.fsum(map(math.exp, pieces.values())) == pytest.approx(1)


def test_rare_characters_end_words() -> None:
    # e 3, x 6, a 8, b 3 of 20 characters: half are a and x, those with a coverage of 0.85 b too.
    words = {"axa": 3, "bxa": 2, "exb": 1, "ee": 1}
    assert cover(words, 1.0) == words
    assert cover(words, 0.85) == {"axa": 3, "bxa": 2, "xb": 1}
    assert cover(words, 0.5) == {"axa": 3, "xa": 2, "x": 1}
    assert cover(words, 0.5, ["e"]) == {"axa": 3, "xa": 2, "ex": 1, "ee": 1}
    pieces = dict(train_unigram(words, 3, character_coverage=0.85))
    assert set(pieces) == {"a", "b", "x"}


def test_characters_of_patterns_are_characters() -> None:
    assert cover({"a]b": 1, "a^b": 1, "ab": 9, "a\\b": 1, "a-b": 1}, 0.8) == {
        "a": 4,
        "b": 4,
        "ab": 9,
    }


def test_progress_rises_to_its_end(sherlock: Counter[str]) -> None:
    reports: list[tuple[int, int]] = []
    train_unigram(sherlock, 1_000, progress=lambda *report: reports.append(report))
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert {report[1] for report in reports} == {reports[-1][0]}


def test_errors() -> None:
    words = {"▁abc": 5, "▁abd": 5}
    with pytest.raises(TokenizerError, match=r"has 5 different characters.*\n.*at least 5"):
        train_unigram(words, 4)
    with pytest.raises(
        TokenizerError, match=r"all that must be there that makes 6.*\n.*at least 6"
    ):
        train_unigram(words, 5, required=["▁a"])
    with pytest.raises(TokenizerError, match=r"the text has 8 .*\n.*at most 8, .*allow_fewer"):
        train_unigram(words, 9)
    assert len(train_unigram(words, 8)) == 8
    assert len(train_unigram(words, 9, allow_fewer=True)) == 8
    with pytest.raises(TokenizerError, match="no words"):
        train_unigram({}, 9)
    with pytest.raises(TokenizerError, match="no words"):
        train_unigram({"a": 0}, 9)
    with pytest.raises(TokenizerError, match="'' with count 1"):
        train_unigram({"": 1}, 9)
    with pytest.raises(TokenizerError, match="'a' with count -1"):
        train_unigram({"a": -1}, 9)
    with pytest.raises(TokenizerError, match="lone surrogate"):
        train_unigram({"a\ud800": 1}, 9)
    with pytest.raises(TokenizerError, match="required"):
        train_unigram(words, 9, required=[""])
    with pytest.raises(TokenizerError, match="mapping of words"):
        train_unigram(["a"], 9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_piece_length", 0),
        ("min_count", 0),
        ("seed_size", -1),
        ("shrink", 1.0),
        ("shrink", 0.0),
        ("em_steps", 0),
        ("character_coverage", 0.0),
        ("character_coverage", 1.1),
    ],
)
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(TokenizerError, match=f"^{name}: {value}"):
        train_unigram({"ab": 3}, 2, **{name: value})


def test_digits_that_look_alike_are_different() -> None:
    # Full-width, Arabic and mathematical digits are characters of their own.
    assert len(train_unigram({"1１١𝟏": 1}, 4)) == 4


def per_byte(pieces: Mapping[str, float], words: Mapping[str, int]) -> tuple[float, float]:
    """Nats per byte of the best segmentations, and of all together; p made to sum to one."""
    norm = math.log(math.fsum(map(math.exp, pieces.values())))
    best_of_all = sum_of_all = 0.0
    for word, n in words.items():
        best, every = [0.0], [1.0]
        for j in range(1, len(word) + 1):
            ways = [
                (i, pieces[word[i:j]] - norm) if word[i:j] in pieces else (i, -20.0)
                for i in range(max(0, j - 16), j)
                if word[i:j] in pieces or i == j - 1
            ]
            best.append(max(best[i] + p for i, p in ways))
            every.append(math.fsum(every[i] * math.exp(p) for i, p in ways))
        best_of_all += n * best[-1]
        sum_of_all += n * math.log(every[-1])
    n_bytes = sum(n * len(word.replace("▁", " ").encode()) for word, n in words.items())
    return best_of_all / n_bytes, sum_of_all / n_bytes


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 8_000])
def test_new_text_is_as_likely_as_with_sentencepiece(
    mirror: Callable[[str], Path], tmp_path: Path, size: int
) -> None:
    def text(part: str) -> str:
        return gzip.decompress(mirror(f"text/wikitext-2/{part}.raw.gz").read_bytes()).decode()

    learned = dict(
        train_unigram(count_unigram_words([text("train")]), size, character_coverage=0.9995)
    )
    (tmp_path / "train.txt").write_text(text("train"), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "train.txt"),
        model_prefix=str(tmp_path / "m"),
        vocab_size=size + 1,
        bos_id=-1,
        eos_id=-1,
        normalization_rule_name="identity",
        max_sentence_length=1 << 20,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    theirs = {model.id_to_piece(i): model.get_score(i) for i in range(1, size + 1)}
    assert len(theirs) == len(learned) == size
    held_out = count_unigram_words([text("test")], split_scripts=False)
    held_out = {word: n for word, n in held_out.items() if len(word) < 30}  # no underflow
    ours, other = per_byte(learned, held_out), per_byte(theirs, held_out)
    assert ours[0] > other[0]
    assert ours[1] > other[1]
