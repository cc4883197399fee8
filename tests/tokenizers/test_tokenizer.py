"""What holds for every tokenizer, whatever its family."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import (
    END_OF_TEXT,
    AddedToken,
    BasicBPE,
    ByteLevelBPE,
    ByteTokenizer,
    StreamDecoder,
    Tokenizer,
    WordTokenizer,
    gpt2,
    parallel,
)
from stemma.tokenizers.formats import huggingface
from stemma.tokenizers.steps.unicode_normalizers import NFC

TEXT = "the cat sat on the mat. the dog sat on the log, and the frog sat there too. " * 3
LOSSLESS: list[Tokenizer] = [
    ByteTokenizer(),
    BasicBPE.train([TEXT], 280),
    ByteLevelBPE.train([TEXT], 280),
    gpt2(),
]
EVERY = [*LOSSLESS, WordTokenizer.train([TEXT])]
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def family(tokenizer: Tokenizer) -> str:
    return type(tokenizer).__name__ + str(tokenizer.vocab_size)


lossless = pytest.mark.parametrize("tokenizer", LOSSLESS, ids=family)
every = pytest.mark.parametrize("tokenizer", EVERY, ids=family)


@lossless
@given(text=any_text)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist(), errors="strict") == text
    assert b"".join(map(tokenizer.token_bytes, ids.tolist())) == text.encode()


@lossless
def test_awkward_texts_come_back(tokenizer: Tokenizer, awkward: list[str]) -> None:
    for text in [*awkward, "".join(awkward)]:
        assert tokenizer.decode(tokenizer.encode(text), errors="strict") == text


@every
@given(data=st.data())
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    stream = StreamDecoder(tokenizer)
    for _ in range(2):  # a finished decoder begins anew
        pieces = [stream.push(i) for i in ids]
        assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)


@every
def test_special_tokens_in_text_are_text_unless_allowed(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text
    assert end == tokenizer.special_tokens[END_OF_TEXT]
    text = f"the cat{END_OF_TEXT}the dog"
    assert end not in tokenizer.encode(text)
    for allowed in ("all", [END_OF_TEXT]):
        ids = tokenizer.encode(text, allowed_special=allowed).tolist()
        parts = [tokenizer.encode("the cat").tolist(), tokenizer.encode("the dog").tolist()]
        assert ids == [*parts[0], end, *parts[1]]
    assert tokenizer.token_bytes(end) == END_OF_TEXT.encode()


@every
def test_no_token_is_empty_and_every_id_decodes(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size))


@every
def test_an_unknown_special_token_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"no such special token: '<\|pad\|>'"):
        tokenizer.encode("a", allowed_special=["<|pad|>"])


@every
def test_lone_surrogates_are_refused_with_their_position(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"lone surrogate, U\+D83D, at position 4"):
        tokenizer.encode("the \ud83d cat \ude00")


@every
def test_ids_outside_the_vocabulary_are_named(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    for ids, message in [
        ([0, size], rf"id {size} at position 1 is outside the vocabulary, 0 to {size - 1}"),
        ([-1], "id -1 at position 0"),
        ([0.5], "one row of integers"),
        ([[1, 2]], "one row of integers"),
        (["a"], "one row of integers"),
    ]:
        with pytest.raises(TokenizerError, match=message):
            tokenizer.decode(ids)
    with pytest.raises(TokenizerError, match=f"id {size} at position 0"):
        tokenizer.token_bytes(size)
    with pytest.raises(TokenizerError, match=f"id {size} at position 0"):
        StreamDecoder(tokenizer).push(size)


@every
def test_bytes_are_no_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="must be a str, got bytes"):
        tokenizer.encode(b"the")  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="one row of integers, got int"):
        tokenizer.decode(5)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="must be a str, got int"):
        tokenizer.encode(5)  # type: ignore[arg-type]


def test_half_a_character_is_replaced_or_refused() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([97, 0xE2, 0x82]) == "a\ufffd"
    assert tokenizer.decode(iter([0xE2, 0x82, 0xAC])) == "€"
    with pytest.raises(TokenizerError, match="byte 0xe2 at offset 1"):
        tokenizer.decode([97, 0xE2, 0x82], errors="strict")
    with pytest.raises(TokenizerError, match="errors='ignore'"):
        tokenizer.decode([97], errors="ignore")  # type: ignore[arg-type]


def test_fingerprints_tell_tokenizers_apart_and_nothing_else() -> None:
    assert len({tokenizer.fingerprint for tokenizer in EVERY}) == len(EVERY)
    assert ByteLevelBPE.train([TEXT], 280).fingerprint == LOSSLESS[2].fingerprint
    assert ByteLevelBPE.train([TEXT], 281).fingerprint != LOSSLESS[2].fingerprint
    assert ByteTokenizer(()).fingerprint != ByteTokenizer().fingerprint


def test_public_names_exist_and_need_no_torch() -> None:
    code = (
        "import sys, stemma.tokenizers.commands as c, stemma.tokenizers as t\n"
        "loaded = {'numpy', 'regex', 'torch', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "[getattr(t, name) for name in t.__all__]; t.gpt2().encode('a')\n"
        "loaded = {'torch', 'pydantic', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab <>1", max_size=12), max_size=8), st.integers(1, 3))
def test_a_stream_is_cut_nowhere_within_added_tokens(pieces: list[str], threads: int) -> None:
    names = ["<a b>", "b a", " 1", "<>"]
    spellings = [bytes([value]) for value in range(256)] + [name.encode() for name in names]
    added = [AddedToken(names[0], 256, special=True)]
    added += [AddedToken(name, 257 + i, special=False) for i, name in enumerate(names[1:])]
    tokenizer = ByteLevelBPE(spellings, [], added)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "STREAMED", 6)
        patch.setattr(parallel, "LEAST_FOR_A_THREAD", 3)
        for allowed in ((), "all"):
            parts = tokenizer.encode_chunks(pieces, allowed_special=allowed, threads=threads)
            whole = tokenizer.encode("".join(pieces), allowed_special=allowed)
            assert [id_ for part in parts for id_ in part.tolist()] == whole.tolist()


def test_a_cut_that_touches_an_added_token_is_sought_further_in_front() -> None:
    text = f"aa bb{END_OF_TEXT}"
    assert gpt2()._cut(text, 5) == 5
    assert parallel._safe_cut(gpt2(), text, 5, frozenset()) == 5
    assert parallel._safe_cut(gpt2(), text, 5, frozenset([END_OF_TEXT])) == 2


def test_an_added_token_that_another_hides_in_part_of_the_text(
    streamed: Callable[..., list[int]],
) -> None:
    """``aab`` hides ``bd c`` only where ``xa`` does not stand before it."""
    names = ["xa", "aab", "bd c"]
    spellings = [bytes([value]) for value in range(256)] + [name.encode() for name in names]
    added = [AddedToken(name, 256 + i, special=False) for i, name in enumerate(names)]
    tokenizer = ByteLevelBPE(spellings, [], added)
    text = "xaabd c and more text"
    cuts = [parallel._safe_cut(tokenizer, text, before, frozenset(names)) for before in (6, 9, 12)]
    assert cuts == [0, 0, 11]
    assert streamed(tokenizer, text) == tokenizer.encode(text).tolist()
    assert tokenizer.encode(text)[:3].tolist() == [256, ord("a"), 258]


def test_a_normal_form_is_made_before_a_text_is_cut(streamed: Callable[..., list[int]]) -> None:
    spellings = [bytes([value]) for value in range(256)]
    tokenizer = ByteLevelBPE(spellings, [], pattern=(".|\n",), normalizer=NFC())
    assert tokenizer._cut("abe\u0301", 3) == 1
    for text in ("abe\u0301", "ae\u0301be\u0301ae\u0301\u0327x"):
        assert streamed(tokenizer, text) == tokenizer.encode(text).tolist()


def test_offsets_know_where_a_text_begins() -> None:
    model = {"type": "BPE", "vocab": {"▁": 0, "a": 1, "<>": 2}, "merges": []}
    document = {
        "model": model,
        "added_tokens": [{"id": 2, "content": "<>", "special": False}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
    }
    tokenizer = huggingface.read(document)
    for text in ("a<>a", "<>a", "a"):
        assert tokenizer.encode_with_offsets(text)[0].tolist() == tokenizer.encode(text).tolist()
    assert tokenizer.encode("a<>a").tolist() == [0, 1, 2, 1]
