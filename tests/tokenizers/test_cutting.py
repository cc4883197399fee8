"""Long texts are cut where nothing changes: streams have the ids of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stemma.tokenizers import Tokenizer, load_tokenizer, parallel
from stemma.tokenizers.cutting import last_edge, neighbours
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

Streamed = Callable[..., list[int]]

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


@pytest.mark.parametrize("model", MODELS)
def test_real_models_cut_before_most_words(
    model: str, mirror: Callable[[str], Path], streamed: Streamed, awkward: list[str]
) -> None:
    tokenizer = load_tokenizer(mirror(model))
    text = "One fine day it rained; then it did not. "
    assert n_stretches(tokenizer, text * 10) > 50
    for text_ in [text, *awkward, f"  {text}  \t  {text}\n日本 日本、 {text} "]:
        assert streamed(tokenizer, text_, threads=2) == tokenizer.encode(text_).tolist()


def test_added_tokens_begin_a_text_anew(mirror: Callable[[str], Path], streamed: Streamed) -> None:
    pieces = UnigramTokenizer.from_file(mirror(MODELS[0])).pieces
    tokenizer = UnigramTokenizer(pieces, added=[AddedToken("<>", len(pieces), special=False)])
    text = "It rained all day<>and the night <> too. <s>We stayed at home</s> and read  </s>"
    assert n_stretches(tokenizer, text) > 9
    for allowed in ((), "all"):
        whole = tokenizer.encode(text, allowed_special=allowed).tolist()
        assert streamed(tokenizer, text, allowed_special=allowed) == whole
