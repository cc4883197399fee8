from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE
from stemma.tokenizers.bpe.train import check_vocab_size

any_text = st.text(st.characters(exclude_categories=["Cs"]))


def test_gages_example_by_hand() -> None:
    """aaabdaaabac: aa -> Z, ab -> Y, ZY -> X gives XdXac."""
    tokenizer = BasicBPE.train(["aaabdaaabac"], 260)
    a, b, c, d, Z, Y, X = *b"abcd", 256, 257, 258
    assert list(tokenizer.merges) == [(a, a), (a, b), (Z, Y)]
    assert tokenizer.encode("aaabdaaabac").tolist() == [X, d, X, a, c]
    assert [tokenizer.token_bytes(i) for i in (Z, Y, X)] == [b"aa", b"ab", b"aaab"]
    assert b in tokenizer.encode("b")


def test_merges_apply_in_the_order_learned_and_not_longest_first() -> None:
    """``bc`` was learned before ``ab``, so ``abc`` is a+bc although ``ab`` comes first in it."""
    tokenizer = BasicBPE([(98, 99), (97, 98)])
    assert tokenizer.encode("abc").tolist() == [97, 256]
    assert tokenizer.encode("abbc").tolist() == [257, 256]


def test_equally_common_pairs_go_by_the_smallest_ids() -> None:
    tokenizer = BasicBPE.train(["xy", "xy", "ab", "ab"], 258)
    assert list(tokenizer.merges) == [(97, 98)]


def test_pairs_do_not_reach_from_one_document_to_the_next() -> None:
    tokenizer = BasicBPE.train(["ab", "ab", "ab"], 300, allow_fewer=True)
    assert list(tokenizer.merges) == [(97, 98)]


def test_too_little_text_says_how_many_merges_there_were() -> None:
    with pytest.raises(TokenizerError, match="needs 43 merges, but the text gives 1"):
        BasicBPE.train(["abab"], 300)
    assert BasicBPE.train(["abab"], 300, allow_fewer=True).vocab_size == 258


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(TokenizerError, match="a vocabulary of 256 is too small") as caught:
        BasicBPE.train(["abab"], 256)
    assert "at least 257" in str(caught.value)
    check_vocab_size(256, ())


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([(97, 256)], "merge 0 joins ids 97 and 256, but only 256 exist"),
        ([(-1, 5)], "joins ids -1 and 5"),
        ([(97, 97), (97, 97)], "listed twice"),
    ],
)
def test_merges_of_what_does_not_exist_are_refused(
    merges: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        BasicBPE(merges)


def test_one_text_is_not_taken_for_many() -> None:
    with pytest.raises(TokenizerError, match="iterable of texts"):
        BasicBPE.train("abab", 258)


@given(st.text("ab ", max_size=60), st.text("ab c", max_size=30))
def test_hugging_face_encodes_the_same(training: str, text: str) -> None:
    tokenizer = BasicBPE.train([training], 270, allow_fewer=True)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
    assert theirs.encode(text).ids == tokenizer.encode(text).tolist()
