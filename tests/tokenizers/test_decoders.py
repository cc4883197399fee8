"""Every decoder joins tokens like the one of its name in Hugging Face's library."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.steps.decoders import (
    BPEDecoder,
    ByteFallback,
    Decoder,
    Fuse,
    Metaspace,
    Replace,
    Sequence,
    Spaces,
    Strip,
    WordPiece,
    from_json,
)

STEPS: list[dict[str, Any]] = [
    *(
        {"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}
        for prefix in ("##", "", "a")
        for cleanup in (True, False)
    ),
    *(
        {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": True}
        for mark in "▁_"
        for scheme in ("always", "first", "never")
    ),
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "BPEDecoder", "suffix": "a"},
    *(
        {"type": "Replace", "pattern": {"String": old}, "content": new}
        for old, new in (("▁", " "), ("a", "bb"), ("ab", ""))
    ),
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    *(
        {"type": "Strip", "content": mark, "start": n, "stop": 0}
        for mark in " a"
        for n in (0, 1, 2)
    ),
]
LLAMA = Sequence((Replace("▁", " "), ByteFallback(), Fuse(), Strip(" ", 1, 0)))
SPELLED = (
    "##a a b## ▁ ▁a ▁▁b _x </w> a</w> </w></w>b <0x41> <0x0a> <0x0G> <0XE4> <0xE2> <0x96> <0x81> "
    ". , ' n't 's 'm do not é 你"
)
TOKENS = [*SPELLED.split(" "), " ", " a", "  ", " do not", "a . b", "x 's"]
steps = st.sampled_from(STEPS)
some_decoder = (
    steps
    | st.none()
    | st.lists(steps, max_size=4).map(lambda several: {"type": "Sequence", "decoders": several})
)
some_tokens = st.lists(st.sampled_from(TOKENS), max_size=6)


@cache
def library(written: str) -> tokenizers.Tokenizer:
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": json.loads(written),
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"},
    }
    return tokenizers.Tokenizer.from_str(json.dumps(document))


def join(decoder: Decoder, tokens: list[str]) -> bytes:
    return decoder.join(token.encode() for token in tokens)


@given(step=some_decoder, tokens=some_tokens)
def test_it_joins_like_the_library(step: dict[str, Any] | None, tokens: list[str]) -> None:
    joined = join(from_json(step), tokens)
    try:
        text = joined.decode()
    except UnicodeDecodeError:  # there, all bytes around one that is wrong are replaced as well
        assume(False)
    ids = [TOKENS.index(token) for token in tokens]
    assert text == library(json.dumps(step)).decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("step", STEPS, ids=json.dumps)
def test_each_joins_any_two_tokens_like_the_library(step: dict[str, Any]) -> None:
    decoder = from_json(step)
    for i, first in enumerate(TOKENS):
        for j, second in enumerate(TOKENS):
            joined = join(decoder, [first, second])
            if joined.decode(errors="replace").encode() == joined:
                text = library(json.dumps(step)).decode([i, j], skip_special_tokens=False)
                assert joined.decode() == text


@given(tokens=some_tokens)
def test_pieces_one_by_one_are_the_text(tokens: list[str]) -> None:
    for decoder in (Spaces(), WordPiece(), Metaspace(), Metaspace(prepend_scheme="never"), LLAMA):
        pieces = (decoder.piece(token.encode(), first=i == 0) for i, token in enumerate(tokens))
        assert b"".join(pieces) == join(decoder, tokens)


def test_the_space_behind_a_word_is_there_only_before_another() -> None:
    decoder = BPEDecoder()
    assert join(decoder, ["lo", "w</w>", "er</w>"]) == b"low er"
    assert decoder.piece(b"er</w>", first=False) == b"er "
    assert join(decoder, []) == b""


def test_by_hand() -> None:
    assert join(Spaces(), ["a", "b"]) == b"a b"
    assert join(WordPiece(), ["do", "##ing", "it", ".", "it", "'s"]) == b"doing it. it's"
    assert join(WordPiece(cleanup=False), ["it", "."]) == b"it ."
    assert join(Metaspace(), ["▁a", "b", "▁c"]) == b"ab c"
    assert join(LLAMA, ["▁a", "<0xE4>", "<0xBD>", "<0xA0>", "▁▁b"]) == "a你  b".encode()


def test_half_a_character_stays_as_it_is() -> None:
    assert join(ByteFallback(), ["<0xE4>", "<0xBD>"]) == b"\xe4\xbd"
    assert join(ByteFallback(), ["<0XE4>", "<0xe>"]) == b"<0XE4><0xe>"


@pytest.mark.parametrize("step", STEPS, ids=json.dumps)
def test_it_is_written_as_it_was_read(step: dict[str, Any]) -> None:
    assert from_json(step).to_json() == step
    sequence = {"type": "Sequence", "decoders": [step, step]}
    assert from_json(sequence).to_json() == sequence


def test_no_decoder_is_none() -> None:
    assert from_json(None) == Spaces()
    assert Spaces().to_json() is None


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "BPEDecoder", "suffix": "\ud800"}, "not text that UTF-8 can hold"),
        ({"type": "CTC"}, "asks for decoder = CTC"),
        ({"type": "ByteLevel"}, "asks for decoder = ByteLevel"),
        ({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}, "decoder.pattern.Regex"),
        ({"type": "Replace", "pattern": {"String": ""}, "content": ""}, "decoder.pattern.String"),
        ({"type": "Strip", "content": "ab", "start": 0, "stop": 0}, "not one character"),
        ({"type": "Strip", "content": "a", "start": -1, "stop": 0}, "not an integer from 0"),
        ({"type": "Sequence", "decoders": [None]}, r"decoders\[0\] is null, not an object"),
        ({"type": "WordPiece", "prefix": "##", "cleanup": True, "x": 1}, "decoder.x = 1"),
    ],
)
def test_what_makes_no_sense_is_named(step: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_json(step)
