from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE, ByteTokenizer
from stemma.tokenizers.bpe.characters import CharacterBPE, CharacterRules
from stemma.tokenizers.bpe.dropout import merge_with_dropout, with_dropout
from stemma.tokenizers.bpe.merge import merge_word
from stemma.tokenizers.tokenizer import Tokenizer
from tokenizers import models

Ids = tuple[int, ...]

A, B, C, D = range(4)
MERGES = [(A, B), (B, C), (4, C), (C, D), (4, 7), (A, A), (4, 4)]
TOKENS = ["a", "b", "c", "d", "ab", "bc", "abc", "cd", "abcd", "aa", "abab"]
RANKS = {pair: rank for rank, pair in enumerate(MERGES)}
RESULTS = [4, 5, 6, 7, 8, 9, 10]
WORDS = {"abc": (A, B, C), "abcd": (A, B, C, D), "ababcd": (A, B, A, B, C, D), "aaaa": (A,) * 4}


def exactly(word: Ids, p: float) -> dict[Ids, float]:
    """The distribution, by following the paper's algorithm into every branch."""

    @cache
    def outcomes(ids: Ids) -> dict[Ids, float]:
        places = sorted((RANKS[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in RANKS)
        found: Counter[Ids] = Counter({ids: p ** len(places)})
        for passed_over, (rank, at) in enumerate(places):
            merged = (*ids[:at], RESULTS[rank], *ids[at + 2 :])
            for result, chance in outcomes(merged).items():
                found[result] += p**passed_over * (1 - p) * chance
        return dict(found)

    return outcomes(word)


def as_hugging_face_does(word: Ids, p: float) -> dict[Ids, float]:
    """The distribution of its queue, from which merges that have become impossible are not taken.

    Such a one, if it is not passed over, gives those passed over before it another chance.
    """

    @cache
    def outcomes(ids: Ids, queue: tuple[Ids, ...], passed: tuple[Ids, ...]) -> dict[Ids, float]:
        if not queue:
            return {tuple(i for i in ids if i >= 0): 1.0}
        rank, at = queue[0]
        found: Counter[Ids] = Counter()
        for result, chance in outcomes(ids, queue[1:], (*passed, queue[0])).items():
            found[result] += p * chance
        rest = [*queue[1:], *passed]
        right = next((i for i in range(at + 1, len(ids)) if ids[i] >= 0), None)
        merged = list(ids)
        if right is not None and RANKS.get((ids[at], ids[right])) == rank:
            merged[at], merged[right] = RESULTS[rank], -1
            alive = [i for i, id_ in enumerate(merged) if id_ >= 0]
            for i, j in pairwise(alive):
                if at in (i, j) and (merged[i], merged[j]) in RANKS:
                    rest.append((RANKS[merged[i], merged[j]], i))
        for result, chance in outcomes(tuple(merged), tuple(sorted(rest)), ()).items():
            found[result] += (1 - p) * chance
        return dict(found)

    places = [(RANKS[pair], at) for at, pair in enumerate(pairwise(word)) if pair in RANKS]
    return outcomes(word, tuple(sorted(places)), ())


def fits(observed: Mapping[Ids, int], expected: Mapping[Ids, float]) -> bool:
    """A chi-square test that fails a right sampler once in a few million times."""
    n = sum(observed.values())
    assert observed.keys() <= expected.keys()
    cells = [(observed.get(ids, 0), n * chance) for ids, chance in expected.items()]
    rare = [cell for cell in cells if cell[1] < 10]
    pooled = [cell for cell in cells if cell[1] >= 10]
    if rare:
        pooled.append((sum(o for o, _ in rare), max(sum(e for _, e in rare), 1e-9)))
    statistic = sum((o - e) ** 2 / max(e, 1) for o, e in pooled)
    freedom = max(len(pooled) - 1, 1)
    limit = freedom * (1 - 2 / (9 * freedom) + 5 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic < limit


def test_by_hand() -> None:
    """``abc`` with the merges ab, bc, abc: each step fails with probability p."""
    p = 0.3
    chances = exactly((A, B, C), p)
    assert chances[A, B, C] == pytest.approx(p * p)
    assert chances[A, 5] == pytest.approx(p * (1 - p))
    assert chances[4, C] == pytest.approx((1 - p) * p)
    assert chances[6,] == pytest.approx((1 - p) ** 2)
    assert sum(chances.values()) == pytest.approx(1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_samples_are_as_likely_as_they_should_be(word: Ids, p: float) -> None:
    generator = np.random.default_rng(0)
    samples = (merge_with_dropout(word, RANKS, RESULTS, p, generator) for _ in range(20_000))
    observed = Counter(map(tuple, samples))
    assert fits(observed, exactly(word, p))
    assert not fits(observed, exactly(word, p + 0.03))


@pytest.mark.parametrize("word", WORDS)
def test_hugging_face_gives_merges_a_second_chance(word: str) -> None:
    """Its samples follow its queue; that is our distribution where no merge makes another void."""
    p = 0.5
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    merges = [(TOKENS[left], TOKENS[right]) for left, right in MERGES]
    theirs = models.BPE(vocabulary, merges, dropout=p)
    observed = Counter(tuple(t.id for t in theirs.tokenize(word)) for _ in range(20_000))
    expected = as_hugging_face_does(WORDS[word], p)
    assert sum(expected.values()) == pytest.approx(1)
    assert fits(observed, expected)
    ours = exactly(WORDS[word], p)
    distance = sum(abs(expected[ids] - ours[ids]) for ids in ours) / 2
    assert expected.keys() == ours.keys()
    assert distance < 0.1
    if word == "ababcd":
        assert distance > 0.01


def test_hugging_face_is_the_same_where_merges_do_not_touch() -> None:
    expected, ours = as_hugging_face_does((C, D, B, A, B), 0.4), exactly((C, D, B, A, B), 0.4)
    assert expected == pytest.approx(ours)
    assert len(ours) == 4


letters = st.lists(st.integers(0, 3), max_size=40)


@given(ids=letters, seed=st.integers(0, 99))
def test_without_dropout_it_is_bpe_and_with_all_of_it_nothing(ids: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    assert merge_with_dropout(ids, RANKS, RESULTS, 1, generator) == ids
    merged = merge_word(list(ids), RANKS, RESULTS)
    assert merge_with_dropout(ids, RANKS, RESULTS, 0, generator) == merged


@given(ids=letters, seed=st.integers(0, 99), p=st.floats(0, 1))
def test_what_is_sampled_spells_the_word(ids: list[int], seed: int, p: float) -> None:
    found = merge_with_dropout(ids, RANKS, RESULTS, p, np.random.default_rng(seed))
    assert "".join(TOKENS[i] for i in found) == "".join(TOKENS[i] for i in ids)


def test_a_long_word_takes_seconds() -> None:
    start = time.process_time()
    found = merge_with_dropout([A] * 200_000, RANKS, RESULTS, 0.1, np.random.default_rng(0))
    assert time.process_time() - start < 20
    assert 100_000 <= len(found) < 200_000


TEXT = "the cat sat on the mat and the rat sat on the cat; that was that, it said "


def trained() -> dict[str, Tokenizer]:
    return {
        "bytes": ByteLevelBPE.train([TEXT], 290, allow_fewer=True),
        "words": CharacterBPE.train([TEXT], 38, allow_fewer=True),
        "basic": BasicBPE.train([TEXT], 268),
        "ranks": ByteLevelBPE.from_ranks(
            {bytes([value]): value for value in range(256)}
            | {b"th": 256, b"the": 257, b" the": 258},
            {"<|endoftext|>": 300},
            pattern="cl100k",
        ),
    }


@pytest.fixture(scope="module")
def tokenizer_of() -> dict[str, Tokenizer]:
    return trained()


FAMILIES = ["bytes", "words", "basic", "ranks"]


@pytest.mark.parametrize("family", FAMILIES)
def test_around_a_finished_tokenizer(family: str, tokenizer_of: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizer_of[family]
    plain = tokenizer.encode(TEXT).tolist()
    random = with_dropout(tokenizer, 0.5, np.random.default_rng(0))
    rows = [random.encode(TEXT).tolist() for _ in range(20)]
    assert len({tuple(row) for row in rows}) > 10
    assert sum(map(len, rows)) > 20 * len(plain)
    for row in rows:
        assert random.decode(row) == tokenizer.decode(row) == tokenizer.decode(plain)
        spelled = b"".join(random.piece(id_, first=i == 0) for i, id_ in enumerate(row))
        assert spelled.rstrip() == random.decode_bytes(row).rstrip()
    again = with_dropout(tokenizer, 0.5, np.random.default_rng(0))
    assert [row.tolist() for row in again.encode_batch([TEXT] * 20)] == rows
    assert with_dropout(tokenizer, 0, np.random.default_rng(0)).encode(TEXT).tolist() == plain
    ids, spans = random.encode_with_offsets(TEXT)
    assert random.decode(ids) == tokenizer.decode(plain)
    assert spans[0, 0] == 0
    assert (spans[1:] >= spans[:-1]).all()
    for id_, (start, end) in zip(ids, spans.tolist(), strict=True):
        token = random.token_bytes(id_).removesuffix(b"</w>")
        assert TEXT.encode()[start:end] == token


def test_with_all_merges_dropped_there_are_bytes_and_characters(
    tokenizer_of: dict[str, Tokenizer],
) -> None:
    generator = np.random.default_rng(0)
    for family in ("bytes", "basic", "ranks"):
        none = with_dropout(tokenizer_of[family], 1, generator)
        spelled = [none.token_bytes(i) for i in none.encode("the é")]
        assert spelled == [bytes([value]) for value in "the é".encode()]
        _, spans = none.encode_with_offsets("the é")
        assert spans.tolist() == [[i, i + 1] for i in range(6)]
    none = with_dropout(tokenizer_of["words"], 1, generator)
    ids, spans = none.encode_with_offsets("the  éa")
    assert [none.token_bytes(i).decode() for i in ids] == ["t", "h", "e</w>", "<|unk|>", "<|unk|>"]
    assert spans.tolist() == [[0, 1], [1, 2], [2, 3], [5, 7], [7, 8]]


def test_a_batch_is_drawn_in_order(tokenizer_of: dict[str, Tokenizer]) -> None:
    """However many threads are asked for."""
    texts = [TEXT * 40] * 60
    one = with_dropout(tokenizer_of["words"], 0.5, np.random.default_rng(0))
    many = with_dropout(tokenizer_of["words"], 0.5, np.random.default_rng(0))
    expected = [one.encode(text).tolist() for text in texts]
    assert [row.tolist() for row in many.encode_batch(texts, threads=4)] == expected


def test_special_tokens_stay_whole(tokenizer_of: dict[str, Tokenizer]) -> None:
    for family in FAMILIES:
        random = with_dropout(tokenizer_of[family], 0.9, np.random.default_rng(0))
        assert random.encode("<|endoftext|>", allowed_special="all").tolist() == [
            random.end_of_text
        ]
        assert random.end_of_text not in random.encode("<|endoftext|>")


def test_hugging_face_samples_the_same_from_the_file(tokenizer_of: dict[str, Tokenizer]) -> None:
    """On ``the cat``, with its words cut by each family's own rule."""
    for family in ("bytes", "words"):
        random = with_dropout(tokenizer_of[family], 0.5, np.random.default_rng(0))
        theirs = tokenizers.Tokenizer.from_str(json.dumps(random.to_json()))
        ours = Counter(tuple(random.encode("the cat").tolist()) for _ in range(4000))
        other = Counter(tuple(theirs.encode("the cat").ids) for _ in range(4000))
        common = sum((ours & other).values()) / 4000
        assert common > 0.85


def test_what_makes_no_sense_is_refused(tokenizer_of: dict[str, Tokenizer]) -> None:
    generator = np.random.default_rng(0)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(TokenizerError, match="no probability"):
            with_dropout(tokenizer_of["bytes"], p, generator)
        with pytest.raises(TokenizerError, match="no probability"):
            merge_with_dropout([A, B], RANKS, RESULTS, p, generator)
    with pytest.raises(TokenizerError, match="a ByteTokenizer has no merges to drop"):
        with_dropout(ByteTokenizer(), 0.1, generator)


def test_a_whole_word_rule_holds_only_without_dropout() -> None:
    """``ignore_merges`` takes a word that is a token as it stands; dropout takes it apart."""
    rules = CharacterRules(ignore_merges=True)
    tokenizer = CharacterBPE(["a", "b", "ab"], [], (), rules)
    generator = np.random.default_rng(0)
    assert with_dropout(tokenizer, 0, generator).encode("ab").tolist() == [2]
    assert with_dropout(tokenizer, 1, generator).encode("ab").tolist() == [0, 1]
