"""Both families of SentencePiece beside the library itself, on vocabularies made up at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import StreamDecoder
from stemma.tokenizers.formats.sentencepiece_model import parse, serialize
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings, byte_piece
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

Streamed = Callable[..., list[int]]
CharsmapOf = Callable[[dict[str, str]], bytes]
FAMILIES = [UnigramTokenizer, SentencePieceBPE]
BYTES = [Piece(byte_piece(value), 0.0, Kind.BYTE) for value in range(256)]
SPECIAL = [
    Piece("<unk>", 0.0, Kind.UNKNOWN),
    Piece("<s>", 0.0, Kind.CONTROL),
    Piece("</s>", 0.0, Kind.CONTROL),
]
ALPHABETS = ["ab▁", "abc▁é", "ab ▁你😀", "a▁", "abcdefgh▁½①ﬁ", "ab½ \u0301▁"]
PLAIN = SentencePieceSettings(remove_extra_whitespaces=False)


RULES = {"ab": "x", "b a": "b", "½ ": "", "x": " ", "①": "", " é": " x", "ca": "e "}
"""Rules that reach over spaces, leave characters out, and make spaces."""


@pytest.fixture(scope="module")
def charsmaps(mirror: Callable[[str], Path], charsmap_of: CharsmapOf) -> list[bytes]:
    model = mirror("tokenizers/sentencepiece/botchan_en_unigram_1000.model")
    return [b"", parse(model.read_bytes()).settings.charsmap, charsmap_of(RULES)]


def library(tokenizer: SentencePieceTokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))


def random_tokenizer(rng: random.Random, charsmaps: list[bytes]) -> SentencePieceTokenizer:
    """Few characters, so that much is found; few scores, so that much is equal."""
    alphabet = rng.choice(ALPHABETS)
    byte_fallback = rng.random() < 0.4
    pieces: dict[str, Piece] = {}
    user_defined, unused = rng.choice([0, 1, 3]), rng.choice([0, 0, 2])
    for _ in range(rng.randint(2, 60)):
        text = "".join(rng.choice(alphabet) for _ in range(rng.choice([1, 1, 2, 2, 3, 4, 6])))
        kinds = [Kind.NORMAL, Kind.USER_DEFINED, Kind.UNUSED]
        (kind,) = rng.choices(kinds, [10, user_defined, unused])
        score = rng.choice([-1.1, -2.2, -3.3, -0.5, 0.0, -0.0, rng.uniform(-20, 1)])
        pieces[text] = Piece(text, score, kind)
    special = SPECIAL + (BYTES if byte_fallback else [])
    settings = SentencePieceSettings(
        charsmap=rng.choice(charsmaps),
        add_dummy_prefix=rng.random() < 0.5,
        remove_extra_whitespaces=rng.random() < 0.5,
        escape_whitespaces=rng.random() < 0.8,
        treat_whitespace_as_suffix=rng.random() < 0.3,
        byte_fallback=byte_fallback,
        unknown_surface=rng.choice([" ⁇ ", "", "?", "▁x"]),
    )
    learned = list(pieces.values())
    family = rng.choice(FAMILIES)
    return family(special + learned if rng.random() < 0.5 else learned + special, settings)


def texts_for(rng: random.Random, tokenizer: SentencePieceTokenizer, n: int) -> Iterator[str]:
    found = "".join(piece.text for piece in tokenizer.pieces if piece.kind == Kind.NORMAL)
    pool = (
        found.replace("▁", " ") + " \u3000x▁ " + rng.choice(["", "é你😀", "½ﬁ\u0301", "\t\n\x00"])
    )
    for _ in range(n):
        yield "".join(rng.choice(pool) for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 30, 80])))


def assert_equal(
    tokenizer: SentencePieceTokenizer, texts: list[str], seed: int, streamed: Streamed
) -> None:
    theirs = library(tokenizer)
    fast = tokenizer._text_encoder()(texts)
    for text, fast_ids in zip(texts, fast, strict=True):
        proto = theirs.encode(text, return_type="proto")
        expected = [piece.id for piece in proto.pieces]
        ids, spans = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == expected, (seed, text)
        assert fast_ids.tolist() == expected, (seed, text)
        assert streamed(tokenizer, text, threads=1 + seed % 2) == expected, (seed, text)
        assert spans.tolist() == [[p.begin, p.end] for p in proto.pieces], (seed, text)
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded == theirs.decode(expected), (seed, text)


def assert_equal_at_random(charsmaps: list[bytes], seeds: range, streamed: Streamed) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        tokenizer = random_tokenizer(rng, charsmaps)
        assert_equal(tokenizer, list(texts_for(rng, tokenizer, 15)), seed, streamed)


def test_sentencepiece_cuts_and_joins_equally(charsmaps: list[bytes], streamed: Streamed) -> None:
    assert_equal_at_random(charsmaps, range(160), streamed)


@pytest.mark.slow
def test_sentencepiece_cuts_and_joins_equally_many_times(
    charsmaps: list[bytes], streamed: Streamed
) -> None:
    assert_equal_at_random(charsmaps, range(1000, 3000), streamed)


def test_any_ids_decode_as_sentencepiece_decodes_them(charsmaps: list[bytes]) -> None:
    for seed in range(200):
        rng = random.Random(seed)
        tokenizer = random_tokenizer(rng, charsmaps)
        theirs = library(tokenizer)
        no_bytes = [i for i, piece in enumerate(tokenizer.pieces) if piece.kind != Kind.BYTE]
        for _ in range(10):
            ids = rng.choices(no_bytes, k=rng.randint(0, 8))
            decoded = tokenizer.decode(ids, skip_special_tokens=True)
            assert decoded == theirs.decode(ids), (seed, ids)


# What follows is small enough to be worked out by hand.

FOX = [
    Piece(text, -float(i))
    for i, text in enumerate(["▁fox", "▁", "f", "o", "x", "fo", "fox", "▁▁", "!"])
]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_space_before_a_text(family: type[SentencePieceTokenizer]) -> None:
    tokenizer = family(SPECIAL + FOX, PLAIN)
    assert tokenizer.encode("fox").tolist() == [3]
    assert tokenizer.encode("fox fox").tolist() == [3, 3]
    assert tokenizer.encode(" fox").tolist() == [4, 3]
    assert tokenizer.decode([4, 3]) == " fox"
    assert tokenizer.decode([3, 3]) == "fox fox"
    assert tokenizer.encode("").tolist() == []
    bare = family(SPECIAL + FOX, replace(PLAIN, add_dummy_prefix=False))
    assert bare.encode("fox of").tolist() == [9, 4, 6, 5]
    assert bare.decode([3, 5]) == " foxf"
    ids, spans = tokenizer.encode_with_offsets("fox  fox!")
    assert ids.tolist() == [3, 4, 3, 11]
    assert spans.tolist() == [[0, 3], [3, 4], [4, 8], [8, 9]]


@pytest.mark.parametrize("family", FAMILIES)
def test_extra_white_space(family: type[SentencePieceTokenizer]) -> None:
    tokenizer = family(SPECIAL + FOX)
    assert tokenizer.encode("  fox   fox ").tolist() == [3, 3]
    assert tokenizer.encode("   ").tolist() == []
    assert tokenizer.decode([4, 3]) == "fox"
    _, spans = tokenizer.encode_with_offsets("  fox   fox ")
    assert spans.tolist() == [[2, 5], [5, 11]]


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_characters(family: type[SentencePieceTokenizer]) -> None:
    tokenizer = family(SPECIAL + FOX, PLAIN)
    ids, spans = tokenizer.encode_with_offsets("é你x")
    assert ids.tolist() == [4, 0, 7]  # one unknown for both
    assert spans.tolist() == [[0, 0], [0, 5], [5, 6]]
    assert tokenizer.decode(ids) == " ⁇ x"
    with_bytes = family(SPECIAL + BYTES + FOX, replace(PLAIN, byte_fallback=True))
    ids, spans = with_bytes.encode_with_offsets("é你")
    assert ids.tolist() == [260, *(3 + byte for byte in "é你".encode())]
    assert spans.tolist() == [[0, 0], [0, 0], [0, 2], [2, 2], [2, 2], [2, 5]]
    assert with_bytes.decode(ids) == "é你"
    assert with_bytes.decode(ids[:3]) == "é"


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_that_are_no_utf8(family: type[SentencePieceTokenizer]) -> None:
    """One U+FFFD for what begins a character, as Python has it; ``sentencepiece`` has three."""
    tokenizer = family(SPECIAL + BYTES + FOX, replace(PLAIN, byte_fallback=True))
    ids = [3 + byte for byte in "😀".encode()[:3]]
    assert tokenizer.decode(ids) == "\ufffd"
    assert library(tokenizer).decode(ids) == "\ufffd" * 3
    with pytest.raises(TokenizerError, match="do not spell UTF-8"):
        tokenizer.decode(ids, errors="strict")
    assert tokenizer.decode_bytes(ids) == "😀".encode()[:3]


@pytest.mark.parametrize("family", FAMILIES)
def test_control_pieces_are_never_found_in_a_text(family: type[SentencePieceTokenizer]) -> None:
    letters = [Piece(c, -10.0 - i) for i, c in enumerate("</s>")]
    tokenizer = family(SPECIAL + FOX + letters, PLAIN)
    assert tokenizer.special_tokens == {"<s>": 1, "</s>": 2}
    assert 2 not in tokenizer.encode("fox</s>")
    # A special token that is allowed cuts the text in two, each with its space before it.
    assert tokenizer.encode("fox</s>fox", allowed_special="all").tolist() == [3, 2, 3]
    ids, spans = tokenizer.encode_with_offsets("fox</s>fox", allowed_special=["</s>"])
    assert (ids.tolist(), spans.tolist()) == ([3, 2, 3], [[0, 3], [3, 7], [7, 10]])
    assert tokenizer.decode([1, 3, 2]) == "<s>fox</s>"
    assert tokenizer.decode([1, 3, 2], skip_special_tokens=True) == "fox"


@pytest.mark.parametrize("family", FAMILIES)
def test_user_defined_pieces_are_found_everywhere(family: type[SentencePieceTokenizer]) -> None:
    pieces = [*SPECIAL, *FOX, Piece("ox!", 0.0, Kind.USER_DEFINED), Piece("x!", -0.1)]
    tokenizer = family(pieces, PLAIN)
    assert tokenizer.encode("fox!").tolist() == [4, 5, 12]
    assert tokenizer.encode("fox").tolist() == [3]


def test_user_defined_pieces_are_found_in_a_stream(
    charsmap_of: CharsmapOf, streamed: Streamed
) -> None:
    """They keep what would be rewritten: ``x`` in itself, and ``bc`` where it follows ``a``."""
    charsmap = charsmap_of({"x": " ", "bc": "d"})
    learned = [Piece("▁", -1.0), Piece("a", -1.0), Piece("b", -1.0), Piece("ax", 5.0)]
    for user_defined, text in (("x", "aaax aaax bax"), ("a b", "ba bc aa bca a bc")):
        pieces = [*SPECIAL, *learned, Piece(user_defined, 0.0, Kind.USER_DEFINED)]
        tokenizer = UnigramTokenizer(pieces, replace(PLAIN, charsmap=charsmap))
        for part in (text[i:] for i in range(len(text))):
            assert streamed(tokenizer, part) == library(tokenizer).encode(part)


@pytest.mark.parametrize("family", FAMILIES)
def test_further_tokens_may_be_added(family: type[SentencePieceTokenizer]) -> None:
    think = AddedToken("<think>", 12, special=False)
    tokenizer = family(SPECIAL + FOX, PLAIN, [think])
    assert tokenizer.vocab_size == 13
    assert tokenizer.encode("fox<think>").tolist() == [3, 12]
    assert tokenizer.decode([3, 12]) == "fox<think>"
    assert tokenizer.encode_batch(["fox<think>", "fox"])[0].tolist() == [3, 12]
    with pytest.raises(TokenizerError, match="is no piece"):
        serialize(tokenizer)


def test_where_a_text_begins_while_it_is_decoded() -> None:
    tokenizer = UnigramTokenizer(SPECIAL + FOX)
    assert tokenizer.piece(3, first=True) == b"fox"
    assert tokenizer.piece(3, first=False) == b" fox"
    assert [tokenizer.ends_beginning(id_) for id_ in (0, 1, 3, 4, 5)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    keeps = UnigramTokenizer(SPECIAL + FOX, PLAIN)
    assert keeps.ends_beginning(4)  # its space was the dummy one


@given(st.lists(st.sampled_from([0, 1, 70, 259, 260, 261, 266])), st.booleans())
def test_pieces_one_by_one_are_the_whole(ids: list[int], remove_extra: bool) -> None:
    settings = SentencePieceSettings(byte_fallback=True, remove_extra_whitespaces=remove_extra)
    tokenizer = UnigramTokenizer(SPECIAL + BYTES + FOX, settings)
    decoder = StreamDecoder(tokenizer)
    for _ in range(2):
        shown = "".join([*map(decoder.push, ids), decoder.finish()])
        assert shown == tokenizer.decode(ids)


@given(st.text())
def test_nothing_is_lost_with_byte_fallback(text: str) -> None:
    settings = SentencePieceSettings(remove_extra_whitespaces=False, byte_fallback=True)
    expected = text.replace("▁", " ")
    for family in FAMILIES:
        tokenizer = family(SPECIAL + BYTES + FOX, settings)
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32
        assert tokenizer.decode(ids) == expected


def test_a_denormalizer_rewrites_decoded_text(charsmaps: list[bytes]) -> None:
    settings = SentencePieceSettings(denormalizer_charsmap=charsmaps[1])
    tokenizer = UnigramTokenizer([*SPECIAL, Piece("½", -1.0), Piece("▁", -2.0)], settings)
    ids = tokenizer.encode("½")
    assert library(tokenizer).decode(ids.tolist()) == tokenizer.decode(ids) == "1⁄2"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"text": ""}, "piece 3 has 0 bytes"),
        ({"text": "x" * 8000}, "piece 3 has 8000 bytes"),
        ({"text": "é" * 4000}, "piece 3 has 8000 bytes"),
        ({"text": "a\0b"}, "null character"),
        ({"text": "\ud800"}, "lone surrogate"),
        ({"text": "▁"}, "pieces 3 and 4 are both '▁'"),
        ({"score": float("nan")}, "the score of piece 3, '▁fox', is nan"),
        ({"score": float("-inf")}, "is -inf"),
        ({"kind": Kind.UNKNOWN}, r"2 unknown pieces: \[0, 3\]"),
        ({"kind": Kind.BYTE}, "1 byte pieces, but byte_fallback is False"),
    ],
)
def test_what_is_no_vocabulary(change: dict[str, Any], complaint: str) -> None:
    pieces = [*SPECIAL, FOX[0]._replace(**change), *FOX[1:]]
    for family in FAMILIES:
        with pytest.raises(TokenizerError, match=complaint):
            family(pieces)


def test_a_vocabulary_without_unknown_piece_or_bytes() -> None:
    with pytest.raises(TokenizerError, match="0 unknown pieces"):
        UnigramTokenizer(FOX)
    with pytest.raises(TokenizerError, match="255 byte pieces"):
        UnigramTokenizer(SPECIAL + BYTES[1:] + FOX, SentencePieceSettings(byte_fallback=True))
    wrong = [*BYTES[1:], Piece("<0x0g>", 0.0, Kind.BYTE)]
    with pytest.raises(TokenizerError, match="'<0x0g>' is no byte piece"):
        UnigramTokenizer(SPECIAL + wrong + FOX, SentencePieceSettings(byte_fallback=True))


def test_the_longest_piece_is_found() -> None:
    tokenizer = SentencePieceBPE(
        [*SPECIAL, *(Piece("x" * 2**i, -float(i)) for i in range(13) if 2**i < 8000)], PLAIN
    )
    assert tokenizer.encode("x" * 4096).tolist() == [0, tokenizer.vocab_size - 1]


def test_equal_fingerprints_mean_equal_ids() -> None:
    same = UnigramTokenizer(SPECIAL + FOX).fingerprint
    assert UnigramTokenizer(SPECIAL + FOX).fingerprint == same
    assert UnigramTokenizer(SPECIAL + FOX, PLAIN).fingerprint != same
    assert UnigramTokenizer([*SPECIAL, *FOX[:-1], Piece("!", -6.5)]).fingerprint != same
    assert SentencePieceBPE(SPECIAL + FOX).fingerprint != same
