"""Long texts are cut where nothing changes: streams have the ids of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stemma.tokenizers import (
    BasicBPE,
    ByteLevelBPE,
    ByteTokenizer,
    GraphemeBPE,
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
    parallel,
)
from stemma.tokenizers.cutting import before_spaces, last_edge, neighbours
from stemma.tokenizers.formats import huggingface
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.steps.unicode_normalizers import NFC, Lowercase
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

Streamed = Callable[..., list[int]]

METASPACE = {"type": "Metaspace", "replacement": "▁"}
AS_LLAMA = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]
AS_XLM = [
    {"type": "NFC"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
]
MODELS = [
    "tokenizers/sentencepiece/botchan_en_unigram_1000.model",
    "tokenizers/sentencepiece/botchan_en_bpe_1000.model",
    "tokenizers/sentencepiece/kyoto_ja_unigram_8000.model",
    "tokenizers/t5/sentencepiece.model",
    "tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf",
]


def n_stretches(tokenizer: Tokenizer, text: str) -> int:
    """Of a text that comes letter by letter, where `streamed` has been asked for."""
    return sum(len(batch) for batch in parallel._batches(tokenizer, text, frozenset(), 1))


def read(model: Any, normalizer: Any, pre_tokenizer: Any, added: Sequence[Any] = ()) -> Tokenizer:
    """A ``tokenizer.json`` of these parts; a list of steps is a sequence."""
    steps = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    for kind, key in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        if isinstance(steps[kind], list):
            steps[kind] = {"type": "Sequence", key: steps[kind]}
    return huggingface.read({"model": model, "added_tokens": [*added], **steps})


def test_the_last_edge() -> None:
    asked: list[str] = []

    def before_a_space(pair: str) -> bool:
        asked.append(pair)
        return pair[1] == " " != pair[0]

    text = "one  two" + "x" * 1000
    assert last_edge(text, len(text), before_a_space) == 3
    assert [last_edge(text, i, before_a_space) for i in (0, 2, 3, 8)] == [0, 0, 3, 3]
    assert last_edge("xxx", 3, before_a_space) == last_edge("", 0, before_a_space) == 0
    assert len(asked) < 100
    assert neighbours(["abc", "a", "ca"]) == {"ab", "bc", "ca"}


def test_places_before_spaces() -> None:
    text = "one  two\tthree▁four\n" + "x" * 300 + " "
    assert [*before_spaces(text, len(text))] == [320, 19, 14, 8, 3]
    assert [*before_spaces(text, 14)] == [14, 8, 3]
    assert not [*before_spaces(" xx", 3)]


TEXT = "the cat sat on the mat; the cat's hat\r\n"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("the cats;\r\n▁\u3000e\u0301日", max_size=40))
@example("the\r\nthe\r\n cats\r\n\r\n the e\u0301 the \u0301 the")
def test_the_other_families(streamed: Streamed, text: str) -> None:
    families = (
        ByteTokenizer(),
        BasicBPE.train([TEXT], 262),
        WordTokenizer.train([TEXT], special_tokens=["<|unk|>"]),
        *(GraphemeBPE.train([TEXT * 3], 270, normalizer=it) for it in (None, NFC(), Lowercase())),
    )
    for tokenizer in families:
        for part in (text, TEXT):
            assert streamed(tokenizer, part) == tokenizer.encode(part).tolist()
    assert [n_stretches(tokenizer, TEXT * 2) > 5 for tokenizer in families] == [True] * 5 + [False]


def test_no_cluster_is_cut() -> None:
    assert GraphemeBPE([], [])._cut("1 1\u0301", 3) == 1
    lines = GraphemeBPE([], [], pattern=(r"\r|\n|[^\r\n]+",))
    assert [lines._cut("a\r\nb", before) for before in (1, 2, 3)] == [1, 1, 3]


@pytest.mark.parametrize("model", MODELS)
def test_real_models_cut_before_most_words(
    model: str, mirror: Callable[[str], Path], streamed: Streamed, awkward: list[str]
) -> None:
    tokenizer = load_tokenizer(mirror(model))
    text = "One fine day it rained; then it did not. "
    assert n_stretches(tokenizer, text * 10) > 50
    for text_ in [text, *awkward, f"  {text}  \t  {text}\n日本 日本、 {text} "]:
        assert streamed(tokenizer, text_, threads=2) == tokenizer.encode(text_).tolist()


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer"),
    [
        (None, {"type": "WhitespaceSplit"}),
        (AS_XLM, [{"type": "WhitespaceSplit"}, METASPACE | {"prepend_scheme": "always"}]),
        (AS_XLM, METASPACE | {"prepend_scheme": "first"}),
        (AS_LLAMA, None),
        (None, METASPACE | {"prepend_scheme": "first", "split": False}),
    ],
)
def test_words_are_cut_apart(normalizer: Any, pre_tokenizer: Any) -> None:
    vocabulary = {token: i for i, token in enumerate(["a", "b", "▁", "▁a"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [["▁", "a"]]}
    tokenizer = read(model, normalizer, pre_tokenizer)
    assert tokenizer._cut("ab ab ab ", 5) == 5
    assert tokenizer._cut("ab ab ab ", 4) == tokenizer._cut("ab ab", 4) == 2
    assert tokenizer._cut("ababab", 5) == 0
    whole = read(model | {"ignore_merges": True}, normalizer, pre_tokenizer)
    in_words = pre_tokenizer is not None and "'split': False" not in str(pre_tokenizer)
    assert whole._cut("ab ab ab ", 5) == (5 if in_words else 0)


def test_added_tokens_begin_a_text_anew(mirror: Callable[[str], Path], streamed: Streamed) -> None:
    pieces = UnigramTokenizer.from_file(mirror(MODELS[0])).pieces
    tokenizer = UnigramTokenizer(pieces, added=[AddedToken("<>", len(pieces), special=False)])
    text = "It rained all day<>and the night <> too. <s>We stayed at home</s> and read  </s>"
    assert n_stretches(tokenizer, text) > 9
    for allowed in ((), "all"):
        whole = tokenizer.encode(text, allowed_special=allowed).tolist()
        assert streamed(tokenizer, text, allowed_special=allowed) == whole


PRE_TOKENIZERS: list[dict[str, Any] | None] = [
    None,
    {"type": "WhitespaceSplit"},
    {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext", "invert": False},
    *(
        METASPACE | {"prepend_scheme": scheme, "split": split}
        for scheme in ("first", "always", "never")
        for split in (True, False)
    ),
]
LETTERS = "▁ab\n日"


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    """A BPE on characters, with and without bytes; or a Unigram model."""
    texts = [*LETTERS, *draw(st.sets(st.text(LETTERS, min_size=2, max_size=3), max_size=8))]
    names = ["<unk>", *draw(st.permutations(texts))]
    fallback = draw(st.booleans())
    if draw(st.booleans()):
        names += [f"<0x{value:02X}>" for value in range(256)] if fallback else []
        scores = st.sampled_from([-1.0, -1.1, -2.5, -3.0])
        vocabulary = [[name, draw(scores)] for name in names]
        return {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": fallback}
    known = set(names) - set(draw(st.sets(st.sampled_from(LETTERS), max_size=2)))
    tokens = [name for name in names if name in known]
    tokens += [f"<0x{value:02X}>" for value in range(256)] if fallback else []
    merges = [
        [text[:i], text[i:]]
        for text in tokens[1:]
        for i in range(1, len(text))
        if text[:i] in known and text[i:] in known
    ]
    flags = ["fuse_unk", "ignore_merges"]
    suffix = draw(st.sampled_from([None, None, "b"]))
    return {
        "type": "BPE",
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": draw(st.permutations(merges)),
        "unk_token": "<unk>",
        "byte_fallback": fallback,
        "end_of_word_suffix": suffix,
        **{flag: draw(st.booleans()) for flag in flags},
    }


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    models(),
    st.sampled_from([None, AS_LLAMA, AS_XLM]),
    st.sampled_from(PRE_TOKENIZERS),
    st.lists(st.text("▁aabb  \n日x", max_size=30), min_size=4, max_size=12),
)
def test_families_of_words(
    streamed: Streamed, model: Any, normalizer: Any, pre_tokenizer: Any, texts: list[str]
) -> None:
    """Whatever is done to a text first, and however it falls into words."""
    tokenizer = read(model, normalizer, pre_tokenizer)
    for text in texts:
        assert streamed(tokenizer, text, threads=2) == tokenizer.encode(text).tolist()


ADDED = st.fixed_dictionaries(
    {flag: st.booleans() for flag in ("single_word", "lstrip", "rstrip", "normalized")}
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ADDED, min_size=3, max_size=3), st.text("AbBB  ", max_size=30), st.booleans())
@example([{"normalized": True}] * 3, "AB AA", False)
@example([{"normalized": True, "rstrip": True}] * 3, "BA   BA   BA   B", True)
@example([{"normalized": False, "rstrip": True, "lstrip": True}] * 3, "ab<>      ab", True)
def test_added_tokens_are_found_in_a_stream(
    streamed: Streamed, flags: list[dict[str, bool]], text: str, by_characters: bool
) -> None:
    """Also where the normalised text holds them, and with the white space that they take along."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", "a", "b", "A", "B", " ", "<", ">"])}
    added = [
        {"id": 8 + i, "content": name, "special": False, **flags[i]}
        for i, name in enumerate(("b a", "<>", "ba"))
    ]
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "<unk>"}
    pre_tokenizer = None if by_characters else {"type": "WhitespaceSplit"}
    tokenizer = read(model, {"type": "Lowercase"}, pre_tokenizer, added)
    assert streamed(tokenizer, text) == tokenizer.encode(text).tolist()


@pytest.mark.parametrize("side", ["lstrip", "rstrip"])
def test_white_space_that_a_token_takes_along_is_not_cut(streamed: Streamed, side: str) -> None:
    spellings = [bytes([value]) for value in range(256)] + [b"<>"]
    token = AddedToken("<>", 256, special=False, lstrip=side == "lstrip", rstrip=side == "rstrip")
    tokenizer = ByteLevelBPE(spellings, [], [token], pattern=(".|\n",))
    text = "ab" + " " * 9 + "<>" + " " * 9 + "ab"
    assert streamed(tokenizer, text) == tokenizer.encode(text).tolist()
