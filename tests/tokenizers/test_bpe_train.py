from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.bpe.basic import BasicBPE
from stemma.tokenizers.bpe.train import (
    Sequences,
    check_vocab_size,
    learn_merges,
    merge_sequences,
    spellings_learned,
    too_little_text,
)

BYTES = [bytes([value]) for value in range(256)]


def naive(words: dict[str, int], wanted: int, least: int) -> tuple[list[bytes], list]:
    """The rule again, on spellings, counting everything anew each time."""
    parts = {word: [bytes([b]) for b in word.encode()] for word in words}
    tokens = list(BYTES)
    merges = []
    while len(tokens) < 256 + wanted:
        counts: Counter = Counter()
        for word, n in words.items():
            for left, right in itertools.pairwise(parts[word]):
                counts[tokens.index(left), tokens.index(right)] += n
        if not counts:
            break
        (left, right), n = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if n < least:
            break
        merges.append((left, right))
        new = tokens[left] + tokens[right]
        if new not in tokens:
            tokens.append(new)
        for word, old in parts.items():
            row, i = [], 0
            while i < len(old):
                if old[i : i + 2] == [tokens[left], tokens[right]]:
                    row.append(new)
                    i += 2
                else:
                    row.append(old[i])
                    i += 1
            parts[word] = row
    return tokens[256:], merges


@pytest.fixture(params=[False, True], ids=["readable", "kernels"])
def _each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda n_bytes: request.param)


@pytest.mark.usefixtures("_each_way")
class TestByHand:
    def test_sennrichs_example(self) -> None:
        """low 5, lower 2, newest 6, widest 3 (arXiv:1508.07909, algorithm 1, without its </w>).

        es 9 (st also 9, but e < s), es+t 9; then lo 7 (ow also 7), lo+w 7; then newest: e+w, n+ew,
        new+est 6 each, of which e+w has the smallest ids.
        """
        words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
        learned, _ = learn_merges(words, BYTES, 7, min_frequency=2)
        assert learned == [b"es", b"est", b"lo", b"low", b"ew", b"new", b"newest"]

    def test_a_run_holds_a_pair_at_every_place(self) -> None:
        """aaaaa: aa 4 times; then aa aa a: (a2, a2) and (a2, a) once each, the smaller id first.

        bc 3 times comes after aa, though only 2 of its 4 can be merged.
        """
        words = {"aaaaa": 1, "bc": 3}
        learned, merges = learn_merges(words, BYTES, 4, min_frequency=1)
        assert learned == [b"aa", b"bc", b"aaa", b"aaaaa"]
        assert merges == [(97, 97), (98, 99), (256, 97), (256, 258)]

    def test_a_pair_that_spells_a_known_token_makes_that_token(self) -> None:
        learned, merges = learn_merges({"abc": 2}, [*BYTES, b"ab"], 1, min_frequency=1)
        assert (learned, merges) == ([b"abc"], [(97, 98), (256, 99)])

    def test_a_token_made_twice_gathers_its_pairs(self) -> None:
        """Ids spell a, b, ab, c; words ab+c 3, a+b+c 2: (ab, c) rises from 3 to 5 by the merge.

        First (ab, c) 3. With a+b+c 4 instead: (a, b) 4 is merged to ab; then (ab, c) is 7.
        """
        spellings = [b"a", b"b", b"ab", b"c"]
        words = Sequences.of({(2, 3): 3, (0, 1, 3): 4})
        merges = merge_sequences(words, spellings, 1, min_frequency=1)
        assert merges.tolist() == [[0, 1, 2], [2, 3, 4]]
        assert merge_sequences(words, spellings, 1, min_frequency=7).size == 0
        assert spellings_learned(spellings, merges) == [b"abc"]

    def test_a_run_made_in_two_ways_is_merged_from_the_left(self) -> None:
        """ab a b ab: (a, b) makes the ab in the middle; then (ab, ab) stands twice, and joins the
        first two, which leaves abab ab.
        """
        words = Sequences.of({(2, 0, 1, 2): 1})
        merges = merge_sequences(words, [b"a", b"b", b"ab"], 9, min_frequency=1)
        assert merges.tolist() == [[0, 1, 2], [2, 2, 3], [3, 2, 4]]

    def test_without_spellings_every_pair_makes_a_token(self) -> None:
        words = Sequences.of({(2, 3): 3, (0, 1, 3): 4})
        merges = merge_sequences(words, 4, 9, min_frequency=1)
        assert merges.tolist() == [[0, 1, 4], [4, 3, 5], [2, 3, 6]]

    def test_no_words(self) -> None:
        assert learn_merges({}, BYTES, 5, min_frequency=1) == ([], [])
        assert learn_merges({"a": 7, "": 3}, BYTES, 5, min_frequency=1) == ([], [])
        assert merge_sequences(Sequences.of({}), 0, 5, min_frequency=1).shape == (0, 3)

    def test_words_that_do_not_occur_count_for_nothing(self) -> None:
        words = {"abab": 0, "": 0, "cab": 2, "abc": 0}
        learned, merges = learn_merges(words, BYTES, 9, min_frequency=0)
        assert (learned, merges) == ([b"ab", b"cab"], [(97, 98), (99, 256)])

    def test_none_wanted(self) -> None:
        assert learn_merges({"ab": 9}, BYTES, 0, min_frequency=1) == ([], [])

    def test_progress_reaches_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[int, int]] = []
        learn_merges({"abc": 2}, BYTES, 5, min_frequency=1, progress=lambda *n: seen.append(n))
        assert seen == [(2, 5)]
        monkeypatch.setattr("stemma.tokenizers.bpe.train.PROGRESS_SECONDS", -1.0)
        learn_merges({"abc": 2}, BYTES, 2, min_frequency=1, progress=lambda *n: seen.append(n))
        assert seen[-1] == (2, 2)
        assert len(seen) > 2


@given(
    st.dictionaries(st.text("aab", min_size=1, max_size=24), st.integers(1, 4), max_size=8),
    st.integers(0, 30),
    st.integers(1, 3),
)
def test_the_naive_trainer_learns_the_same(words: dict[str, int], wanted: int, least: int) -> None:
    assert learn_merges(words, BYTES, wanted, min_frequency=least) == naive(words, wanted, least)


@given(st.lists(st.text("abc", max_size=30), max_size=6), st.integers(0, 20), st.integers(1, 3))
def test_gages_trainer_learns_the_same(texts: list[str], wanted: int, least: int) -> None:
    """Where every text is one word, and the ids of bytes are their values."""
    basic = BasicBPE.train(
        texts, 256 + wanted, special_tokens=[], min_frequency=least, allow_fewer=True
    )
    _, merges = learn_merges(Counter(texts), BYTES, wanted, min_frequency=least)
    assert merges == list(basic.merges)


@given(
    st.dictionaries(st.text("abcd", min_size=1, max_size=9), st.integers(1, 3), max_size=20),
    st.randoms(use_true_random=False),
)
def test_the_order_of_words_does_not_matter(words: dict[str, int], chance: random.Random) -> None:
    mixed = dict(chance.sample(list(words.items()), len(words)))
    learned = learn_merges(words, BYTES, 30, min_frequency=1)
    assert learn_merges(mixed, BYTES, 30, min_frequency=1) == learned


def test_sequences_are_what_they_are_made_of() -> None:
    words = {(1, 2, 3): 4, (): 1, (5,): 7}
    assert list(Sequences.of(words)) == [([1, 2, 3], 4), ([], 1), ([5], 7)]
    assert Sequences.of(words).ids.dtype == np.int32


def test_a_vocabulary_too_small_or_too_large_is_refused() -> None:
    check_vocab_size(257, ["<|x|>"])
    with pytest.raises(Exception, match=r"256 is too small: 256 bytes and <\|x\|> take 257"):
        check_vocab_size(256, ["<|x|>"])
    error = str(too_little_text(3, 10, 266, 2))
    assert "needs 10 merges, but the text gives 3" in error
    assert "at most 259" in error
