from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import load_tokenizer
from stemma.tokenizers.bpe.characters import CharacterBPE
from stemma.tokenizers.character import CharacterTokenizer, character_level
from stemma.tokenizers.steps import decoders, normalizers

any_text = st.text(st.characters(exclude_categories=["Cs"]))
near_text = st.text(
    st.one_of(st.sampled_from("hello ü\n"), st.characters(exclude_categories=["Cs"]))
)


def test_by_hand() -> None:
    tokenizer = CharacterTokenizer.train(["hello", "hö"])
    assert tokenizer.characters == ("e", "h", "l", "o", "ö")
    assert tokenizer.special_tokens == {"<|endoftext|>": 5, "<|unk|>": 6}
    assert tokenizer.encode("hell").tolist() == [1, 0, 2, 2]
    assert tokenizer.encode("hexe").tolist() == [1, 0, 6, 0]
    assert tokenizer.decode([1, 0, 6, 0]) == "he<|unk|>e"
    assert not tokenizer.lossless


def test_bytes_for_what_is_not_in_the_alphabet() -> None:
    tokenizer = CharacterTokenizer("ab", ("<|endoftext|>",), byte_fallback=True)
    assert tokenizer.vocab_size == 2 + 256 + 1
    assert tokenizer.encode("aéb").tolist() == [0, 2 + 0xC3, 2 + 0xA9, 1]
    assert tokenizer.token_bytes(2 + 0xC3) == b"\xc3"
    assert tokenizer.decode([0, 2 + 0xC3]) == "a\ufffd"
    assert tokenizer.lossless
    assert CharacterTokenizer("ab", byte_fallback=True).lossless


def test_without_either_an_unknown_character_is_an_error() -> None:
    tokenizer = CharacterTokenizer("ab", ())
    assert tokenizer.lossless
    with pytest.raises(
        TokenizerError, match="the character 'ü' is not in the vocabulary"
    ) as caught:
        tokenizer.encode("abü!")
    assert "byte_fallback" in str(caught.value)


@given(text=near_text, alphabet=st.sets(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_with_bytes_every_text_comes_back(text: str, alphabet: set[str]) -> None:
    tokenizer = CharacterTokenizer(sorted({*"helo ", *alphabet}), byte_fallback=True)
    ids, spans = tokenizer.encode_with_offsets(text)
    assert tokenizer.decode(ids) == text
    assert ids.tolist() == tokenizer.encode(text).tolist()
    expected = []
    for character in text:
        known = character in tokenizer.characters
        expected += [character.encode()] if known else [bytes([b]) for b in character.encode()]
    assert [tokenizer.token_bytes(i) for i in ids] == expected
    assert [text.encode()[a:b] for a, b in spans.tolist()] == expected


@given(training=any_text, text=near_text)
def test_what_was_trained_on_comes_back(training: str, text: str) -> None:
    if not training:
        return
    tokenizer = CharacterTokenizer.train([training])
    assert list(tokenizer.characters) == sorted({*training})
    assert tokenizer.decode(tokenizer.encode(training)) == training
    unknown = tokenizer.special_tokens["<|unk|>"]
    expected = [c if c in training else None for c in text]
    assert [
        None if i == unknown else tokenizer.characters[i] for i in tokenizer.encode(text)
    ] == expected


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_hugging_face_opens_what_is_written(
    byte_fallback: bool,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    tokenizer = CharacterTokenizer.train(awkward[:8], byte_fallback=byte_fallback)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for text in [*awkward, *random_texts(2000, 0)]:
        ids = tokenizer.encode(text, allowed_special="all")
        assert theirs.encode(text).ids == ids.tolist()
        assert theirs.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


@pytest.mark.parametrize("special", [("<|endoftext|>", "<|unk|>"), ("<|endoftext|>",), ()])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_it_is_recognised_in_what_is_written(
    special: tuple[str, ...], byte_fallback: bool, tmp_path: Path
) -> None:
    tokenizer = CharacterTokenizer("aü\n", special, byte_fallback=byte_fallback)
    read = load_tokenizer(tokenizer.save(tmp_path / "saved"))
    again = character_level(read) if isinstance(read, CharacterBPE) else read
    assert isinstance(again, CharacterTokenizer)
    assert again.fingerprint == read.fingerprint == tokenizer.fingerprint
    assert again.characters == tokenizer.characters
    assert again.lossless == tokenizer.lossless


def test_other_tokenizers_are_not_taken_for_it() -> None:
    fused = decoders.Sequence((decoders.Fuse(),))
    assert character_level(CharacterBPE(["a", "b"], [], decoder=fused)) is not None
    assert character_level(CharacterBPE(["a", "b"], [])) is None
    assert character_level(CharacterBPE(["a", "ab"], [], decoder=fused)) is None
    assert character_level(CharacterBPE(["a", "aa"], [(0, 0)], decoder=fused)) is None
    assert character_level(CharacterBPE(["x", "a"], [], {"x": 0}, decoder=fused)) is None
    lower = normalizers.Lowercase()
    assert character_level(CharacterBPE(["a"], [], decoder=fused, normalizer=lower)) is None


def test_special_tokens_are_not_learned_from_and_have_to_be_allowed() -> None:
    tokenizer = CharacterTokenizer.train(["ab<|endoftext|>ba"])
    assert tokenizer.characters == ("a", "b")
    assert tokenizer.encode("a<|endoftext|>", allowed_special="all").tolist() == [0, 2]
    assert 2 not in tokenizer.encode("a<|endoftext|>")


def test_a_vocabulary_of_a_size_keeps_the_commonest() -> None:
    texts = ["aaab", "bccd"]
    assert CharacterTokenizer.train(texts, 5).characters == ("a", "b", "c")
    assert CharacterTokenizer.train(texts, 4).characters == ("a", "b")
    assert CharacterTokenizer.train(texts, 2 + 256 + 1, byte_fallback=True).characters == ("a",)
    for documents, size in [(texts, 2), ([], None), (["<|unk|>"], None)]:
        with pytest.raises(TokenizerError, match="would hold no character"):
            CharacterTokenizer.train(documents, size)


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        (["a", "bc"], "'bc' is not one character"),
        (["a", ""], "'' is not one character"),
        (["a", "b", "a"], "ids 0 and 2 are both 'a'"),
        (["a", "\ud800"], "lone surrogate"),
    ],
)
def test_alphabets_that_make_no_sense_are_refused(characters: list[str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        CharacterTokenizer(characters)


def test_a_text_that_comes_in_pieces_is_the_whole() -> None:
    tokenizer = CharacterTokenizer("ab é", byte_fallback=True)
    chunks = ["ab<|endof", "text|>é", "ü" * 2_000_000, "a", "<|endoftext|>"]
    rows = list(tokenizer.encode_chunks(chunks, allowed_special="all"))
    whole = tokenizer.encode("".join(chunks), allowed_special="all")
    assert np.concatenate(rows).tolist() == whole.tolist()
    assert len(rows) > 1
    assert (whole == tokenizer.end_of_text).sum() == 2
