from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import END_OF_TEXT, UNKNOWN, WordTokenizer, load_tokenizer
from stemma.tokenizers.word import cut_words

VERDICT = "It's the last he painted, you know, Mrs. Gisburn said -- with pardonable pride. Hello"


def test_words_and_marks_are_cut_as_in_the_book() -> None:
    assert cut_words("Hello, world. Is this-- a test: yes?") == (
        ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", ":", "yes", "?"]
    )


def test_ids_are_places_in_the_alphabet_and_special_tokens_follow() -> None:
    tokenizer = WordTokenizer.train(["b a, b"])
    assert tokenizer.encode("a b ,").tolist() == [1, 2, 0]
    assert tokenizer.special_tokens == {END_OF_TEXT: 3, UNKNOWN: 4}


def test_an_unknown_word_is_lost_and_seen_to_be() -> None:
    tokenizer = WordTokenizer.train([VERDICT])
    ids = tokenizer.encode("Hello, do you like tea?")
    assert tokenizer.decode(ids) == "Hello, <|unk|> you <|unk|> <|unk|> <|unk|>"


def test_without_unk_an_unknown_word_is_an_error() -> None:
    tokenizer = WordTokenizer.train([VERDICT], special_tokens=[END_OF_TEXT])
    with pytest.raises(TokenizerError, match="the word 'tea' is not in the vocabulary"):
        tokenizer.encode("Hello, tea")


def test_decoding_sets_marks_close() -> None:
    tokenizer = WordTokenizer.train([VERDICT])
    text = "you know, Mrs. Gisburn said -- with pride."
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_special_token_in_a_text_is_no_word() -> None:
    tokenizer = WordTokenizer.train([f"a {END_OF_TEXT} b"])
    assert tokenizer.vocab_size == 4
    assert tokenizer.encode(END_OF_TEXT).tolist() == [tokenizer.special_tokens[UNKNOWN]]


def test_the_commonest_words_stay_when_room_is_short() -> None:
    tokenizer = WordTokenizer.train(["c c c a b b d"], 4)
    assert [tokenizer.token_bytes(i) for i in range(2)] == [b"b", b"c"]
    with pytest.raises(TokenizerError, match="no word"):
        WordTokenizer.train(["a"], 2)
    with pytest.raises(TokenizerError, match="no word"):
        WordTokenizer.train(["  "])


def test_a_doubled_word_is_refused() -> None:
    with pytest.raises(TokenizerError, match="'a' is listed twice"):
        WordTokenizer(["a", "b", "a"])


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab,.- \t\x1f'\"")))
def test_hugging_face_opens_it_with_the_same_ids(text: str) -> None:
    tokenizer = WordTokenizer.train([VERDICT, "a b ab"])
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
    assert theirs.encode(text).ids == tokenizer.encode(text).tolist()


def test_it_survives_saving(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train([VERDICT])
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(VERDICT).tolist() == tokenizer.encode(VERDICT).tolist()


@given(st.text("ab ,.\n-é\u2003_?", max_size=30))
def test_spans_are_those_of_the_library(text: str) -> None:
    ours = WordTokenizer(["a", "b", "ab", ",", "--", "é"])
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_json()))
    expected = theirs.encode(text)
    ids, spans = ours.encode_with_offsets(text)
    assert ids.tolist() == expected.ids
    found = [(len(text.encode()[:a].decode()), len(text.encode()[:b].decode())) for a, b in spans]
    assert found == expected.offsets


def test_spans_by_hand() -> None:
    ids, spans = WordTokenizer(["the", "man"]).encode_with_offsets("the  man was")
    assert ids.tolist() == [0, 1, 3]
    assert spans.tolist() == [[0, 3], [5, 8], [9, 12]]
