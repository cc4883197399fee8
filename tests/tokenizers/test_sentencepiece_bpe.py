from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers.formats.sentencepiece_model import serialize
from stemma.tokenizers.sentencepiece.bpe import (
    Kind,
    Piece,
    SentencePieceBPE,
    SentencePieceSettings,
    merge,
    sortable,
    take_apart,
)

LLAMA = "tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf"
AS_LLAMA = SentencePieceSettings(remove_extra_whitespaces=False, byte_fallback=True)

PIECES = st.dictionaries(
    st.text("abc▁", min_size=2, max_size=4), st.integers(-9, 0), min_size=1, max_size=20
)


def merge_slowly(text: str, ranks: dict[str, int]) -> list[str]:
    """The rule itself: again and again the best pair of all, the leftmost of several."""
    parts = list(text)
    while True:
        pairs = [(ranks.get(a + b), i) for i, (a, b) in enumerate(pairwise(parts))]
        found = [(rank, -i) for rank, i in pairs if rank is not None]
        if not found:
            return parts
        i = -max(found)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@pytest.fixture(scope="module")
def llama(mirror: Callable[[str], Path]) -> SentencePieceBPE:
    fields = gguf.GGUFReader(mirror(LLAMA)).fields
    names = ("tokens", "scores", "token_type")
    tokens, scores, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in names)
    pieces = [Piece(*row) for row in zip(tokens, scores, map(Kind, kinds), strict=True)]
    return SentencePieceBPE(pieces, AS_LLAMA)


def test_a_hand_worked_merge() -> None:
    # low-er: l o w e r -> lo w e r -> lo w er -> low er -> lower
    ranks = {"lo": 5, "er": 4, "low": 3, "we": 2, "lower": 1}
    assert merge("lower", [], ranks)[0] == ["lower"]
    assert merge("lowe", [], ranks)[0] == ["low", "e"]
    assert merge("werlo", [], ranks)[0] == ["w", "er", "lo"]
    assert merge("lower", [(1, 3)], ranks)[0] == ["l", "ow", "er"]


def test_of_equal_pairs_the_leftmost_is_merged_first() -> None:
    assert merge("aaaaa", [], {"aa": 1})[0] == ["aa", "aa", "a"]
    assert merge("aaaaa", [], {"aa": 1, "aaa": 1})[0] == ["aaa", "aa"]
    assert merge("abab", [], {"ab": 1, "ba": 1})[0] == ["ab", "ab"]


@given(PIECES, st.text("abc▁d", max_size=30))
def test_the_heap_finds_what_looking_at_all_pairs_finds(ranks: dict[str, int], text: str) -> None:
    assert merge(text, [], ranks)[0] == merge_slowly(text, ranks)


def test_unused_pieces_are_taken_apart() -> None:
    pieces = [("▁", -1), ("a", -2), ("b", -3), ("ab", -4), ("abb", -5)]
    kinds = [Kind.NORMAL] * 3 + [Kind.UNUSED, Kind.NORMAL]
    unknown = Piece("<unk>", 0.0, Kind.UNKNOWN)
    learned = [Piece(text, score, kind) for (text, score), kind in zip(pieces, kinds, strict=True)]
    tokenizer = SentencePieceBPE([unknown, *learned])
    assert tokenizer.encode("abb").tolist() == [1, 5]
    assert tokenizer.encode("aab").tolist() == [1, 2, 2, 3]
    assert tokenizer.encode_with_offsets("aab")[0].tolist() == [1, 2, 2, 3]
    assert take_apart(["ab", "x"], {"ab": ("a", "b")}, {"ab"}) == ["a", "b", "x"]
    # One that is a single character cannot be taken apart: it is unknown.
    lonely = [unknown, *learned[:2], learned[2]._replace(kind=Kind.UNUSED)]
    assert SentencePieceBPE(lonely).encode("ab").tolist() == [1, 2, 0]


def test_unused_pieces_are_taken_apart_as_sentencepiece_does() -> None:
    """By the two parts that made such a piece last, anywhere in the text."""
    rng = random.Random(6)
    for _ in range(150):
        texts = {"".join(rng.choice("ab") for _ in range(rng.randint(1, 5))) for _ in range(14)}
        kinds = rng.choices([Kind.NORMAL, Kind.UNUSED], [2, 1], k=len(texts))
        learned = [Piece(*row) for row in zip(texts, map(float, range(20)), kinds, strict=False)]
        rng.shuffle(learned)
        unknown = Piece("<unk>", 0.0, Kind.UNKNOWN)
        tokenizer = SentencePieceBPE([unknown, *learned, Piece("▁", -1.0)])
        theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))
        strings = ["".join(rng.choice("aab ") for _ in range(30)) for _ in range(10)]
        fast = tokenizer._text_encoder()(strings)
        for text, fast_ids in zip(strings, fast, strict=True):
            readable, _ = tokenizer.encode_with_offsets(text)
            assert readable.tolist() == fast_ids.tolist() == theirs.encode(text)


def test_scores_as_integers_keep_their_order() -> None:
    scores = np.array([-1e9, -2.5, -1.0, -1e-30, -0.0, 0.0, 1e-30, 3.0], np.float32)
    assert (np.diff(sortable(scores).astype(np.int64)) > 0).all()


def test_llamas_vocabulary_cuts_as_sentencepiece_does(
    llama: SentencePieceBPE,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(llama))
    texts = [*awkward, *random_texts(1000, 4)]
    fast = llama._text_encoder()(texts)
    for text, fast_ids in zip(texts, fast, strict=True):
        ids, spans = llama.encode_with_offsets(text)
        assert ids.tolist() == fast_ids.tolist() == theirs.encode(text), text
        proto = theirs.encode(text, return_type="proto")
        assert spans.tolist() == [[p.begin, p.end] for p in proto.pieces], text
        assert llama.decode(ids) == theirs.decode(ids.tolist()) == text, text


def test_llamas_vocabulary_cuts_as_llama_cpp_does(
    llama: SentencePieceBPE,
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    llama_cpp: Any = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
    theirs = llama_cpp.Llama(model_path=str(mirror(LLAMA)), vocab_only=True, verbose=False)
    texts = [text.replace("\0", "") for text in (*awkward, *random_texts(1000, 5))]
    for text, ids in zip(texts, llama._text_encoder()(texts), strict=True):
        assert ids.tolist() == theirs.tokenize(text.encode(), add_bos=False, special=False), text


@pytest.mark.slow
def test_llamas_vocabulary_on_a_hundred_thousand_strings(
    llama: SentencePieceBPE, random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(llama))
    texts = list(random_texts(100_000, 6))
    for ids, text in zip(llama._text_encoder()(texts), texts, strict=True):
        assert ids.tolist() == theirs.encode(text), text


@pytest.mark.parametrize("run", ["a", " ", "\n", "ab", "你", "😀", "▁", "e\u0301"])
def test_a_megabyte_of_one_letter(llama: SentencePieceBPE, run: str) -> None:
    text = run * (1_000_000 // len(run.encode()))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(llama))
    expected = theirs.encode(text, return_type="numpy")
    assert np.array_equal(llama._text_encoder()([text])[0], expected)
    part = text[:20_000]
    normalized = llama.rewrite(part)
    readable = [id_ for id_, _, _ in llama._joined(normalized, llama._segment(normalized))]
    assert readable == theirs.encode(part)


def test_random_vocabularies_of_runs() -> None:
    """Runs of one letter whose pieces all have one score grow from the left."""
    rng = random.Random(1)
    for _ in range(50):
        sizes = rng.sample(range(2, 20), rng.randint(1, 12))
        runs = [Piece("a" * n, -1.0) for n in sizes]
        pieces = [Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("a"), Piece("▁"), *runs]
        tokenizer = SentencePieceBPE(pieces)
        theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))
        for n in range(60):
            assert tokenizer.encode("a" * n).tolist() == theirs.encode("a" * n)
