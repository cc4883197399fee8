"""Whatever stands in a file, loading it gives a tokenizer that works, or a clear error."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import (
    BasicBPE,
    ByteLevelBPE,
    Tokenizer,
    WordTokenizer,
    gpt2,
    load_tokenizer,
)
from stemma.tokenizers.formats.tiktoken import write_tiktoken
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer
from stemma.tokenizers.unigram.wordwise import WordwiseUnigram
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

Mirror = Callable[[str], Path]
TEXT = "ab abc abcd " * 3
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
PUBLISHED = {
    "tokenizers/gpt2/tokenizer.json": ByteLevelBPE,
    "tokenizers/gpt2/encoder.json": ByteLevelBPE,
    "tokenizers/gpt2/vocab.bpe": ByteLevelBPE,
    "tokenizers/gpt2": ByteLevelBPE,
    "tokenizers/bert/tokenizer.json": WordPiece,
    "tokenizers/bert/vocab.txt": WordPiece,
    "tokenizers/t5/flan-t5-tokenizer.json": WordwiseUnigram,
    "tokenizers/sentencepiece/botchan_en_bpe_1000.model": SentencePieceBPE,
    "tokenizers/sentencepiece/kyoto_ja_unigram_8000.model": UnigramTokenizer,
    "tokenizers/tiktoken/cl100k_base.tiktoken": ByteLevelBPE,
    "tokenizers/ggml-vocab/ggml-vocab-bert-bge.gguf": WordPiece,
    "weights/stories15M/tokenizer.bin": SentencePieceBPE,
}


@pytest.mark.parametrize("path", PUBLISHED)
def test_every_format_is_told_by_its_content(path: str, mirror: Mirror, tmp_path: Path) -> None:
    source = mirror(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = load_tokenizer(source)
        assert type(tokenizer) is PUBLISHED[path]
        ids = tokenizer.encode("Hello world")
        assert tokenizer.decode(ids).strip().lower() == "hello world" or "kyoto" in path
        if source.is_file() and source.name not in ("encoder.json", "vocab.bpe"):
            renamed = tmp_path / "some.file"
            renamed.write_bytes(source.read_bytes())
            assert load_tokenizer(renamed).encode("Hello world").tolist() == ids.tolist()


def test_gpt2_s_two_files_are_gpt2(mirror: Mirror) -> None:
    tokenizer = load_tokenizer(mirror("tokenizers/gpt2/encoder.json"))
    assert tokenizer.fingerprint == gpt2().fingerprint
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256}


def test_bert_s_vocabulary_is_bert(
    mirror: Mirror, awkward: list[str], random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    ours = load_tokenizer(mirror("tokenizers/bert/vocab.txt"))
    theirs = tokenizers.BertWordPieceTokenizer(str(mirror("tokenizers/bert/vocab.txt")))
    for text in [*awkward, *random_texts(300, 3)]:
        assert ours.encode(text, add_special_tokens=True).tolist() == theirs.encode(text).ids


def test_a_cased_vocabulary_keeps_capitals(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*BERT, "The"]) + "\n")
    assert load_tokenizer(path).encode("The cats").tolist() == [8, 6, 7]
    assert load_tokenizer(tmp_path).encode("THE the").tolist() == [1, 5]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(path).encode("The THE").tolist() == [5, 5]
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    with pytest.raises(TokenizerError, match="asks for tokenize_chinese_chars = false"):
        load_tokenizer(path)


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    document = ByteLevelBPE.train([TEXT], 261, special_tokens=["<s>", "</s>"]).to_json()
    (tmp_path / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    merges = "\n".join(["#version: 0.2", *document["model"]["merges"], ""])
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    return tmp_path


def test_two_files_are_one_tokenizer(two_files: Path) -> None:
    expected = ByteLevelBPE.train([TEXT], 261, special_tokens=["<s>", "</s>"])
    for path in (two_files, two_files / "vocab.json", two_files / "merges.txt"):
        assert load_tokenizer(path).fingerprint == expected.fingerprint
    (two_files / "added_tokens.json").write_text('{"<x>": 261}')
    assert load_tokenizer(two_files).special_tokens == {"<s>": 259, "</s>": 260, "<x>": 261}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", None, "is missing beside"),
        ("vocab.json", None, "there is no tokenizer here"),
        ("merges.txt", "#version: 0.2\nzz z\n", "merge 0.*is not a pair"),
        ("merges.txt", "a b c\n", "merge 0.*is not a pair"),
        ("vocab.json", '{"a": 1}', "no token has id 0"),
        ("vocab.json", '{"a": "0"}', "not an integer"),
        ("vocab.json", '{"a": 0', "damaged or not JSON"),
        ("added_tokens.json", "[]", "not an object of token: id"),
        ("added_tokens.json", '{"<x>": 7}', "id 7 stands for"),
        ("tokenizer_config.json", "7", "not a JSON object"),
        ("tokenizer_config.json", '{"tokenizer_class": "Qwen2Tokenizer"}', "for a Qwen2Tokenizer"),
        ("tokenizer_config.json", '{"add_prefix_space": true}', "do not say how it cuts"),
    ],
)
def test_two_files_that_do_not_fit_are_refused(
    name: str, content: str | None, message: str, two_files: Path
) -> None:
    if content is None:
        (two_files / name).unlink()
    else:
        (two_files / name).write_text(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(two_files)


def test_of_several_files_the_one_that_says_most_is_read(two_files: Path) -> None:
    BasicBPE.train([TEXT], 261).save(two_files)
    assert isinstance(load_tokenizer(two_files), BasicBPE)


def test_several_of_one_kind_have_to_be_told_apart(tmp_path: Path) -> None:
    tokenizer = ByteLevelBPE.train([TEXT], 258)
    for name in ("a.tiktoken", "b.tiktoken"):
        write_tiktoken(tokenizer, tmp_path / name)
    with pytest.raises(TokenizerError, match=r"(?s)holds 2 files.*a.tiktoken, b.tiktoken"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[1]", b"once upon a time\n" * 9, bytes(99), b"PK\x03\x04" + bytes(9)],
)
def test_what_is_no_tokenizer_is_told_what_would_be(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(data)
    with pytest.raises(
        TokenizerError, match=r"(?s)no tokenizer.*tokenizer\.json.*gguf.*vocab\.txt"
    ):
        load_tokenizer(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TokenizerError, match="is not a file"):
        load_tokenizer(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("tokenizer.json", b"{"),
        ("a.tiktoken", b"YQ== 0\n"),
        ("tokenizer.model", b"\n\x02\n\0"),
        ("tokenizer.bin", b"\x07\0\0\0"),
        ("vocab.bpe", b"#version: 0.2\n"),
    ],
)
def test_a_file_that_is_far_too_large_is_not_read(name: str, head: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    (tmp_path / "encoder.json").write_text("{}")
    with path.open("wb") as file:
        file.write(head)
        file.truncate(10 << 30)
    with pytest.raises(TokenizerError, match=r"has 10,737,418,240 bytes"):
        load_tokenizer(path)


def test_reading_json_does_not_wait_for_what_it_does_not_need(tmp_path: Path) -> None:
    path = ByteLevelBPE.train([TEXT], 261).save(tmp_path) / "tokenizer.json"
    program = f"""
import sys
from stemma.tokenizers import load_tokenizer
tokenizer = load_tokenizer({str(path)!r})
tokenizer.encode("ab abc")
print(sorted({{"numba", "regex", "torch", "gguf", "jinja2", "tiktoken"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


DOCUMENTS = [
    ByteLevelBPE.train([TEXT], 261).to_json(),
    BasicBPE.train([TEXT], 261).to_json(),
    WordTokenizer.train([TEXT]).to_json(),
    WordPiece.bert(BERT).to_json(),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("abĠ \ud800"), max_size=4)
    | st.sampled_from(
        ["BPE", "Unigram", "WordPiece", "ByteLevel", "Metaspace", "Sequence", "[UNK]"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.just("type"), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container in the document with each of its keys."""
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    here = [(document, key) for key in keys]
    inner = [document[key] for key in keys if isinstance(document[key], dict | list)]
    return here + [place for value in inner for place in places(value)]


def works(tokenizer: Tokenizer) -> None:
    """It encodes, or says why it cannot; and what it gives, it can decode."""
    try:
        ids = tokenizer.encode("ab abcd the cats", add_special_tokens=True)
    except TokenizerError:
        return
    tokenizer.decode(ids)
    plain = tokenizer.normalizer is None and type(tokenizer) is ByteLevelBPE
    assert not plain or tokenizer.decode(tokenizer.encode("ab abcd")) == "ab abcd"


@settings(max_examples=500)
@given(data=st.data())
def test_a_file_with_anything_anywhere_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(document)
        # The vocabulary has hundreds of places and the rest a dozen: both must be reached.
        few = [place for place in found if len(place[0]) < 20]
        container, key = data.draw(st.sampled_from(few or found) | st.sampled_from(found))
        if data.draw(st.booleans()):
            container[key] = data.draw(values)
        else:
            del container[key]
    path: Path = tmp_path_factory.mktemp("fuzz") / "t.json"
    path.write_text(json.dumps(document), "ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tokenizer = load_tokenizer(path)
        except TokenizerError:
            return
        works(tokenizer)


@settings(max_examples=300)
@given(data=st.data())
def test_a_file_with_any_bytes_in_it_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    own = ByteLevelBPE.train([TEXT], 261)
    kind = data.draw(st.sampled_from(["json", "ranks", "vocabulary", "anything"]))
    if kind == "json":
        content = json.dumps(own.to_json()).encode()
    elif kind == "ranks":
        content = write_tiktoken(own, directory / "r").read_bytes()
    elif kind == "vocabulary":
        content = "\n".join(BERT).encode() + b"\n"
    else:
        content = data.draw(st.binary(max_size=300))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4)) if changed else 0):
        at = data.draw(st.integers(0, len(changed)))
        new = data.draw(st.binary(max_size=9) | st.sampled_from([b"{", b"\n", b"999999999", b" "]))
        changed[at : at + data.draw(st.integers(0, 9))] = new
    path = directory / "f"
    path.write_bytes(changed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tokenizer = load_tokenizer(path)
        except TokenizerError:
            return
        works(tokenizer)
