from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE
from stemma.tokenizers.bpe import byte_level
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER, from_visible, to_visible
from tokenizers import models, pre_tokenizers, trainers

ALPHABET = [bytes([value]) for value in BYTE_ORDER]
TEXT = "low low low low low lower lower newest newest newest newest newest newest widest widest "


def hugging_face_merges(text: str, vocab_size: int) -> list[str]:
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    return [" ".join(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]


def test_the_alphabet_is_hugging_faces() -> None:
    written = [to_visible(token) for token in ALPHABET]
    assert sorted(written) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert written == sorted(written)
    assert [from_visible(character) for character in written] == ALPHABET
    assert (to_visible(b" \n"), from_visible("Ġthe"), from_visible("a b")) == ("ĠĊ", b" the", None)
    assert from_visible("語") is None


def test_hugging_faces_trainer_learns_the_same_merges(
    mirror: Callable[[str], Path], awkward: list[str]
) -> None:
    prose = mirror("text/sherlock.txt").read_text("utf-8")[:200_000]
    strange = "\n".join(awkward * 3).replace("<|endoftext|>", "")  # ours learns nothing from it
    for text, vocab_size in [(prose, 1500), (strange, 500), (TEXT, 270)]:
        ours = ByteLevelBPE.train([text], vocab_size + 1, allow_fewer=True)
        assert ours.to_json()["model"]["merges"] == hugging_face_merges(text, vocab_size)


@pytest.mark.slow
def test_hugging_faces_trainer_learns_the_same_merges_from_megabytes(
    mirror: Callable[[str], Path],
) -> None:
    text = mirror("text/tinyshakespeare.txt").read_text("utf-8")
    ours = ByteLevelBPE.train([text], 8001)
    assert ours.to_json()["model"]["merges"] == hugging_face_merges(text, 8000)


def test_ids_are_laid_out_like_gpt2s() -> None:
    tokenizer = ByteLevelBPE.train([TEXT], 260)
    assert tokenizer.token_bytes(0) == b"!"
    assert tokenizer.end_of_text == 259


def test_documents_are_counted_together_and_split_by_special_tokens() -> None:
    together = ByteLevelBPE.train(iter(["ab cd", " cd ab"]), 259, allow_fewer=True)
    apart = ByteLevelBPE.train(["ab cd<|endoftext|> cd ab"], 259, allow_fewer=True)
    assert together.merges == apart.merges != []


def test_tokens_never_reach_over_the_edge_of_a_word() -> None:
    tokenizer = ByteLevelBPE.train(["ab ab ab ab " * 9], 300, allow_fewer=True)
    learned = [tokenizer.token_bytes(i) for i in range(256, tokenizer.vocab_size - 1)]
    assert sorted(learned) == [b" ab", b"ab"]


def test_long_words_take_the_other_way_to_the_same_ids(awkward: list[str]) -> None:
    tokenizer = ByteLevelBPE.train(["\n".join(awkward) * 3 + "aab" * 60], 350)
    texts = ["ab" * 500, "a" * 999, "=" * 200 + "世界" * 90, " " * 500, "".join(awkward)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "LONG_WORD_BYTES", 0)
        long_way = [tokenizer._encode_word(text) for text in texts]
        patch.setattr(byte_level, "LONG_WORD_BYTES", 1 << 30)
        assert [tokenizer._encode_word(text) for text in texts] == long_way


def test_the_readable_twin_cuts_a_word_the_same() -> None:
    """A text of letters is one word, so merges learned without words mean the same with them."""
    twin = BasicBPE.train(["abracadabracadabra" * 2], 262)
    spellings = [twin.token_bytes(i) for i in range(twin.vocab_size)]
    fast = ByteLevelBPE(spellings, list(twin.merges), twin.special_tokens)
    for text in ("abra", "cadabra", "abracadabra" * 30, "barcaaab"):
        assert fast.encode(text).tolist() == twin.encode(text).tolist()


def test_a_full_cache_starts_anew(awkward: list[str]) -> None:
    tokenizer = ByteLevelBPE.train(awkward * 3, 300)
    expected = [tokenizer.encode(text).tolist() for text in awkward]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "CACHED_WORDS", 2)
        tokenizer._cache.clear()
        assert [tokenizer.encode(text).tolist() for text in awkward] == expected
        assert len(tokenizer._cache) <= 2
        tokenizer.encode("x" * 1000)
        assert "x" * 1000 not in tokenizer._cache


@pytest.mark.parametrize(("vocab_size", "least"), [(256, 257), (0, 257), (-5, 257)])
def test_vocabularies_below_257_are_refused(vocab_size: int, least: int) -> None:
    with pytest.raises(TokenizerError, match=f"vocabulary of {vocab_size} is too small") as caught:
        ByteLevelBPE.train([TEXT], vocab_size)
    assert f"at least {least}" in str(caught.value)


def test_the_smallest_vocabulary_is_bytes() -> None:
    assert ByteLevelBPE.train([], 257).encode("!").tolist() == [0]


def test_too_little_text_says_what_was_possible() -> None:
    with pytest.raises(TokenizerError) as caught:
        ByteLevelBPE.train(["ab ab"], 2048)
    assert "needs 1791 merges, but the text gives 1" in str(caught.value)
    assert "ask for at most 258" in str(caught.value)
    assert ByteLevelBPE.train(["ab ab"], 2048, allow_fewer=True).vocab_size == 258
    assert ByteLevelBPE.train(["ab ab"], 258).vocab_size == 258


@pytest.mark.parametrize(
    ("spellings", "merges", "message"),
    [
        (ALPHABET[1:], [], "no token for byte 0x21"),
        ([*ALPHABET, b"!"], [], "both spell"),
        (ALPHABET, [(0, 1)], "makes no token"),
        (ALPHABET, [(0, 999)], "makes no token"),
        ([*ALPHABET, b'!"'], [(0, 1), (0, 1)], "listed twice"),
    ],
)
def test_inconsistent_vocabularies_are_refused(
    spellings: list[bytes], merges: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        ByteLevelBPE(spellings, merges, {})


def test_bytes_without_a_token_may_be_left_out_as_tokenizers_does() -> None:
    spellings = [byte for byte in ALPHABET if byte not in {b"x", b"\x04", b"\xc3"}] + [b"ab"]
    merges = [(spellings.index(b"a"), spellings.index(b"b"))]
    with pytest.warns(UserWarning, match=r"3 bytes of UTF-8 \(0x04, 0x78, 0xc3\): they are left"):
        ours = ByteLevelBPE(spellings, merges, drop_unknown=True)
    vocabulary = {to_visible(spelling): i for i, spelling in enumerate(spellings)}
    theirs = tokenizers.Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in ["axb\x04 ab xxaxbx", "xxx", "é", "a\x04b" * 50]:
        assert ours.encode(text).tolist() == theirs.encode(text).ids
        assert ours._compiled.encode(text.encode()).tolist() == theirs.encode(text).ids
    ids, spans = ours.encode_with_offsets("xaxb éx a")
    assert ours.decode(ids) == "ab \ufffd a"
    assert spans.tolist() == [[1, 4], [4, 5], [6, 7], [8, 9], [9, 10]]


def test_nothing_is_said_of_bytes_that_no_written_text_has() -> None:
    spellings = [byte for byte in ALPHABET if byte not in {b"\x04", b"\x1d", b"\xf1"}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = ByteLevelBPE(spellings, [], drop_unknown=True)
    assert tokenizer.decode(tokenizer.encode("a\x04b")) == "ab"


def test_a_special_token_must_stand_at_its_id() -> None:
    with pytest.raises(TokenizerError, match="does not stand at its id"):
        ByteLevelBPE(ALPHABET, [], {"<|x|>": 3})


def test_an_id_may_be_left_out_and_stands_for_nothing() -> None:
    tokenizer = ByteLevelBPE(
        [*ALPHABET, b"", b"ab"], [(ALPHABET.index(b"a"), ALPHABET.index(b"b"))]
    )
    assert tokenizer.encode("ab").tolist() == [257]
    with pytest.raises(TokenizerError, match="id 256 at position 1 stands for nothing"):
        tokenizer.decode([257, 256])


def test_words_are_learned_from_by_the_pattern_given() -> None:
    text = "x12345 y12345 z12345 " * 20
    by_three = ByteLevelBPE.train([text], 270, pattern="cl100k", allow_fewer=True)
    assert by_three.pattern == "cl100k"
    longest = max(
        sum(c.isdigit() for c in token.decode("latin-1")) for token in by_three._spellings
    )
    assert longest == 3
