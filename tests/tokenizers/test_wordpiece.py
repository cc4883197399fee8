from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.load import load_tokenizer
from stemma.tokenizers.steps import decoders
from stemma.tokenizers.steps.pre_tokenizers import WhitespaceSplit
from stemma.tokenizers.wordpiece.tokenizer import WordPiece, read_vocabulary
from tokenizers import models

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNWANTED = ["un", "##want", "##wanted", "##ed", "runn", "##ing", "##a", "want", ",", "w"]


@pytest.fixture(scope="module")
def bert(mirror: Callable[[str], Path]) -> WordPiece:
    return WordPiece.bert(mirror("tokenizers/bert/vocab.txt"))


@pytest.fixture(scope="module")
def their_bert(mirror: Callable[[str], Path]) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer.from_file(str(mirror("tokenizers/bert/tokenizer.json")))
    theirs.no_padding()
    theirs.no_truncation()
    return theirs


def test_by_hand() -> None:
    """The example of BERT's paper: the longest piece first, then the longest that continues."""
    tokenizer = WordPiece.bert([*SPECIAL, *UNWANTED])
    spelled = [tokenizer.tokens[i] for i in tokenizer.encode("UNwantéd,running")]
    assert spelled == ["un", "##wanted", ",", "runn", "##ing"]
    assert tokenizer.decode(tokenizer.encode("UNwantéd,running")) == "unwanted, running"


def test_greed_is_not_undone() -> None:
    """``want`` fits, but nothing spells what follows it, although ``w`` + ``##a`` ... might."""
    tokenizer = WordPiece.bert([*SPECIAL, *UNWANTED])
    assert tokenizer.encode("wanta").tolist() == [tokenizer.tokens.index("want"), 11]
    assert tokenizer.encode("wantx want").tolist() == [1, 12]


def test_special_tokens_surround_a_text_and_are_not_made_of_it() -> None:
    tokenizer = WordPiece.bert([*SPECIAL, *UNWANTED])
    assert tokenizer.encode("un", add_special_tokens=True).tolist() == [2, 5, 3]
    assert tokenizer.encode("[MASK]", allowed_special="all").tolist() == [4]
    split = WordPiece([*SPECIAL, "[MASK]s"], {"[MASK]": 4}, pre_tokenizer=WhitespaceSplit())
    assert split.encode("[MASK] [MASK]s").tolist() == [1, 5]


def test_a_word_that_is_too_long_is_unknown() -> None:
    tokenizer = WordPiece(["a", "##a", "[UNK]"], max_characters=3)
    assert tokenizer.encode("aaa aaaa").tolist() == [0, 1, 1, 2]


def test_an_unknown_word_without_a_token_for_it_is_an_error() -> None:
    tokenizer = WordPiece(["a", "##b"])
    assert tokenizer.encode("abb").tolist() == [0, 1, 1]
    with pytest.raises(TokenizerError, match=r"no tokens spell the word 'abc'.*has no \[UNK\]"):
        tokenizer.encode("ab abc")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b", "a"], "ids 0 and 2 are both 'a'"),
        (["[CLS]", "[SEP]"], r"no token \[UNK\]"),
        (["[CLS]", "[UNK]"], r"no token \[SEP\]"),
    ],
)
def test_vocabularies_that_make_no_sense_are_refused(tokens: list[str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        WordPiece.bert(tokens)


def test_reading_vocab_txt(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("[UNK]\r\n[CLS]\n[SEP]\né\n\u2028x\n".encode())
    assert read_vocabulary(path) == ["[UNK]", "[CLS]", "[SEP]", "é", "\u2028x"]
    assert WordPiece.bert(path, lowercase=False).encode("é").tolist() == [3]
    for content, message in [
        (b"[UNK]\n\n[SEP]\n", "line 2: is empty"),
        (b"[UNK]\n\xff\n", "byte 0xff at offset 6"),
        (b"[UNK]\nx\nx\n", "ids 1 and 2 are both 'x'"),
        (b"[UNK]\n", r"no token \[CLS\] and no \[SEP\]"),
    ]:
        path.write_bytes(content)
        with pytest.raises(TokenizerError, match=message) as caught:
            WordPiece.bert(path)
        assert str(path) in str(caught.value)
    with pytest.raises(TokenizerError, match="No such file"):
        WordPiece.bert(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.BPEDecoder("</w>"),
        decoders.WordPiece("##", cleanup=True),
        decoders.Sequence((decoders.BPEDecoder("g"), decoders.Fuse())),
    ],
    ids=str,
)
def test_decoding_is_the_decoders_matter(decoder: decoders.Decoder) -> None:
    """Also where what a token adds depends on whether another one follows."""
    tokens = ["[UNK]", "un", "##ing", "##a</w>", "lo</w>", "don", "'", "##'", "t", " ", ".", "ng"]
    tokenizer = WordPiece(tokens, {"[UNK]": 0}, decoder=decoder)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
    generator = random.Random(4)
    for _ in range(500):
        ids = generator.choices(range(len(tokens)), k=generator.randint(0, 8))
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def random_vocabularies(
    n: int, seed: int
) -> Iterator[tuple[random.Random, WordPiece, models.WordPiece]]:
    generator = random.Random(seed)
    for _ in range(n):
        alphabet = generator.choice(["ab", "abc#", "aé漢😀b", "ab#▁"])
        prefix = generator.choice(["##", "##", "#", "", "a"])
        tokens = {"[UNK]": 0}
        if generator.random() < 0.6:
            for letter in alphabet:
                tokens.setdefault(letter, len(tokens))
                tokens.setdefault(prefix + letter, len(tokens))
        for _ in range(generator.randint(1, 25)):
            piece = "".join(generator.choices(alphabet, k=generator.randint(1, 4)))
            tokens.setdefault((prefix if generator.random() < 0.6 else "") + piece, len(tokens))
        longest = generator.choice([100, 5, 8])
        ours = WordPiece(
            list(tokens), {"[UNK]": 0}, continuing_prefix=prefix, max_characters=longest
        )
        theirs = models.WordPiece(
            tokens,
            unk_token="[UNK]",
            max_input_chars_per_word=longest,
            continuing_subword_prefix=prefix,
        )
        for _ in range(20):
            word = "".join(generator.choices(alphabet, k=generator.randint(1, 14)))
            yield word, ours, theirs


def test_words_equal_hugging_face_for_any_vocabulary() -> None:
    known = 0
    for word, ours, theirs in random_vocabularies(250, seed=1):
        expected = theirs.tokenize(word)
        ids = ours._encode_word(word)
        assert ids == [token.id for token in expected]
        ends = [0, *(token.offsets[1] for token in expected)]
        assert ours._word_lengths(word, ids) == [b - a for a, b in pairwise(ends)]
        known += ids != [0]
    assert known > 2000


def test_bert_equals_hugging_face(
    bert: WordPiece,
    their_bert: tokenizers.Tokenizer,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    for text in [*awkward, *random_texts(3000, 0)]:
        expected = their_bert.encode(text)
        ids = bert.encode(text, allowed_special="all", add_special_tokens=True)
        assert ids.tolist() == expected.ids
        assert bert.decode(ids) == their_bert.decode(ids, skip_special_tokens=False)
        found, spans = bert.encode_with_offsets(text, allowed_special="all")
        byte_of = [0, *accumulate(len(character.encode()) for character in text)]
        assert found.tolist() == expected.ids[1:-1]
        assert spans.tolist() == [[byte_of[a], byte_of[b]] for a, b in expected.offsets[1:-1]]


words = st.sampled_from(
    ["the", "un", "believ", "able", "##s", "[SEP]", "don't", "İ", "ß", "ﬁ", "漢字"]
)
marks = st.sampled_from([" ", "\t", "", "-", "\u0301", "\u200d", "\xa0", "'", "\ufffd", "\x00"])
texts = st.lists(st.one_of(words, marks, st.text(st.characters(exclude_categories=["Cs"]))))


@given(parts=texts)
def test_bert_equals_hugging_face_on_any_text(
    bert: WordPiece, their_bert: tokenizers.Tokenizer, parts: list[str]
) -> None:
    text = "".join(parts)
    expected = their_bert.encode(text, add_special_tokens=False)
    assert bert.encode(text, allowed_special="all").tolist() == expected.ids


def test_what_is_written_opens_elsewhere_and_here(
    bert: WordPiece,
    their_bert: tokenizers.Tokenizer,
    tmp_path: Path,
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    theirs = tokenizers.Tokenizer.from_str(json.dumps(bert.to_json()))
    again = WordPiece.from_file(bert.save(tmp_path / "bert"))
    assert again.fingerprint == bert.fingerprint
    for text in random_texts(300, 1):
        ids = bert.encode(text, allowed_special="all").tolist()
        assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert again.encode(text, allowed_special="all").tolist() == ids


def test_an_added_token_is_no_piece_of_a_word(tmp_path: Path) -> None:
    theirs = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, "##a": 3, "##b": 4}, unk_token="[UNK]")
    )
    theirs.add_tokens([tokenizers.AddedToken("ab", single_word=True)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    again = load_tokenizer(ours.save(tmp_path / "again"))
    for text in ("aba", "ab", "bab", "ab ab"):
        expected = theirs.encode(text).ids
        for tokenizer in (ours, again):
            assert tokenizer.encode(text, allowed_special="all").tolist() == expected
            assert tokenizer.encode_batch([text] * 2)[1].tolist() == expected
    assert ours.encode("aba").tolist() == [1, 4, 3]
    assert again.fingerprint == ours.fingerprint


def test_a_file_read_equals_the_vocabulary_read(
    bert: WordPiece,
    mirror: Callable[[str], Path],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    with pytest.warns(UserWarning, match="cut texts to 128 tokens"):
        read = WordPiece.from_file(mirror("tokenizers/bert/tokenizer.json"))
    assert read.special_tokens == bert.special_tokens
    for text in random_texts(200, 2):
        assert read.encode(text).tolist() == bert.encode(text).tolist()


def test_a_text_may_be_cut_at_a_space(
    bert: WordPiece, random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    for text in random_texts(300, 3):
        cut = bert._cut(text, len(text) // 2)
        parts = [bert.encode(text[:cut]).tolist(), bert.encode(text[cut:]).tolist()]
        assert parts[0] + parts[1] == bert.encode(text).tolist()
    assert bert._cut("one two three", 9) == 7
    assert bert._cut("onetwothree", 9) == 0
    assert bert._cut("one two", 2) == 0


def test_long_words_take_linear_time() -> None:
    """A word of a million letters, spelled or not, within seconds: no place is looked at twice."""
    tokens = ["[UNK]", *("a" * n for n in range(1, 60)), *("##" + "a" * n for n in range(1, 60))]
    tokenizer = WordPiece([*tokens, "b"], max_characters=1 << 30)
    start = time.process_time()
    assert tokenizer.encode("a" * 1_000_000).size == -(-1_000_000 // 59)
    assert tokenizer.encode("a" * 1_000_000 + "b").tolist() == [0]
    assert time.process_time() - start < 10
