"""GGUF vocabularies: llama.cpp's ids, its 47 golden vectors, and files that it opens."""

from __future__ import annotations

import json
import os
import string
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer, Tokenizer, load_tokenizer
from stemma.tokenizers.formats import sentencepiece_model
from stemma.tokenizers.formats.gguf import load_gguf, read
from stemma.tokenizers.formats.gguf_metadata import read_metadata
from stemma.tokenizers.formats.gguf_patterns import PRE_TOKENIZERS
from stemma.tokenizers.formats.gguf_write import write_vocabulary
from stemma.tokenizers.formats.tiktoken import load_tiktoken
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.steps.oniguruma import oniguruma_pattern
from stemma.tokenizers.unicode.classes import ranges
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

Mirror = Callable[[str], Path]
RandomTexts = Callable[[int, int], Iterator[str]]
NAMES = ["gpt-2", "llama-spm", "bert-bge"]
LACKING_IN_SMOLLM2 = frozenset(b"\x04\x06\x13\x14\x16\x1d\xf1\xf2")
"""Bytes for which its vocabulary has no token."""
LETTERS_AND_NUMBERS = frozenset(
    chr(code)
    for name in ("L", "N")
    for first, last in ranges(name)
    for code in range(first, last + 1)
)
OTHERWISE_IN_LLAMA_CPP = {"gpt-4o", "tekken", "deepseek-coder"}
"""Rules that llama.cpp writes differently from the models' own tokenizers."""


@pytest.fixture(scope="module")
def vocabulary(mirror: Mirror) -> Callable[[str], Path]:
    return lambda name: mirror(f"tokenizers/ggml-vocab/ggml-vocab-{name}.gguf")


@contextmanager
def quiet() -> Iterator[None]:
    """llama.cpp writes to file descriptor 2, whatever it is asked."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class LlamaCpp:
    def __init__(self, path: Path) -> None:
        llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
        with quiet():
            self._model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        with quiet():
            ids: list[int] = self._model.tokenize(text.encode(), add_bos=special, special=special)
        return ids


def assert_same_as_llama_cpp(ours: Tokenizer, path: Path, texts: Iterable[str]) -> None:
    theirs = LlamaCpp(path)
    for text in texts:
        if "\0" not in text:  # which ends a text in C
            assert ours.encode(text).tolist() == theirs.encode(text), text
            everything = ours.encode(text, allowed_special="all", add_special_tokens=True)
            assert everything.tolist() == theirs.encode(text, special=True), text


def known_to_llama_cpp(text: str) -> str:
    """Without letters and numbers that are younger than Unicode 3.2: llama.cpp's tables are of
    another version than ours, and a character that one of them does not know is no letter there."""
    old = unicodedata.ucd_3_2_0
    return "".join(c for c in text if c not in LETTERS_AND_NUMBERS or old.category(c) != "Cn")


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_vectors(name: str, vocabulary: Callable[[str], Path]) -> None:
    path = vocabulary(name)
    tokenizer = load_tokenizer(path)
    inputs = path.with_suffix(".gguf.inp").read_bytes().decode()
    outputs = path.with_suffix(".gguf.out").read_text().split("\n")
    texts = inputs.split("\n__ggml_vocab_test__\n")
    assert len(texts) == len(outputs) == 47
    for text, ids in zip(texts, outputs, strict=True):
        assert tokenizer.encode(text).tolist() == [int(id_) for id_ in ids.split()], text


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_llama_cpp_gives_the_same_ids(
    name: str, vocabulary: Callable[[str], Path], awkward: list[str], random_texts: RandomTexts
) -> None:
    path = vocabulary(name)
    texts = [*awkward, "a<s>b</s> <|endoftext|>x", *random_texts(1500, 5)]
    assert_same_as_llama_cpp(load_gguf(path), path, map(known_to_llama_cpp, texts))


def test_the_unknown_piece_is_no_special_token(vocabulary: Callable[[str], Path]) -> None:
    """Where we differ from llama.cpp, and do as ``sentencepiece`` does: see docs/tokenizers.md."""
    path = vocabulary("llama-spm")
    ours = load_gguf(path)
    plain = ours.encode("a<unk>b").tolist()
    assert ours.encode("a<unk>b", allowed_special="all").tolist() == plain
    assert ours.special_tokens == {"<s>": 1, "</s>": 2}
    theirs = LlamaCpp(path)
    assert theirs.encode("a<unk>b") == plain
    assert 0 in theirs.encode("a<unk>b", special=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_llama_cpp_on_a_hundred_thousand_strings(
    name: str,
    *,
    vocabulary: Callable[[str], Path],
    random_texts: RandomTexts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = vocabulary(name)
    ours, theirs = load_gguf(path), LlamaCpp(path)
    texts = [known_to_llama_cpp(text).replace("\0", "") for text in random_texts(100_000, 8)]
    expected = [theirs.encode(text) for text in texts]
    for by_kernels in (True, False):
        for module in ("kernels", "sentencepiece.base"):
            monkeypatch.setattr(f"stemma.tokenizers.{module}.worth", lambda _, on=by_kernels: on)
        for text, ids, wanted in zip(texts, ours.encode_batch(texts), expected, strict=True):
            assert ids.tolist() == wanted, (by_kernels, text)


def test_bert_is_cut_like_bert(
    vocabulary: Callable[[str], Path],
    mirror: Mirror,
    awkward: list[str],
    random_texts: RandomTexts,
) -> None:
    """llama.cpp drops every combining mark, BERT those without a width of their own; some scripts
    differ for it. We do as BERT does, and as llama.cpp where a text holds no such marks."""
    path = vocabulary("bert-bge")
    ours = load_gguf(path)
    theirs = tokenizers.Tokenizer.from_file(str(mirror("tokenizers/bert/tokenizer.json")))
    theirs.no_truncation()
    theirs.no_padding()
    texts = [*awkward, *random_texts(1500, 5)]
    for text in texts:
        ids = ours.encode(text, add_special_tokens=True).tolist()
        assert ids == theirs.encode(text).ids
    plain = ["".join(c for c in text if ord(c) < 0x250 and c.isprintable()) for text in texts]
    assert_same_as_llama_cpp(ours, path, plain)


def test_smollm2_s_own_vocabulary(
    smollm2: Path, awkward: list[str], random_texts: RandomTexts
) -> None:
    ours = load_gguf(smollm2)
    assert ours.vocab_size == 49152
    assert ours.pattern == "smollm"  # type: ignore[attr-defined]
    assert ours.special_tokens["<|im_start|>"] == 1
    # Its vocabulary lacks some bytes, which both leave out; but across their place llama.cpp does
    # not merge what stands beside them, while `tokenizers` does (see the next test), and so do we.
    texts = [*awkward, *random_texts(1500, 7), "<|im_start|>user\nHi<|im_end|>\n"]
    plain = ["".join(c for c in t if LACKING_IN_SMOLLM2.isdisjoint(c.encode())) for t in texts]
    assert_same_as_llama_cpp(ours, smollm2, map(known_to_llama_cpp, plain))


def converted_by_transformers(path: Path) -> tokenizers.Tokenizer:
    """SmolLM2's tokenizer as `transformers` reads it, and as its own tokenizer.json cuts digits."""
    theirs = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    library = theirs.backend_tokenizer
    # The converter leaves out that digits stand alone (tokenizer.ggml.pre).
    cut = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    spell = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([cut, spell])
    return library


def test_smollm2_as_transformers_converts_it(
    smollm2: Path, awkward: list[str], random_texts: RandomTexts
) -> None:
    library, ours = converted_by_transformers(smollm2), load_gguf(smollm2)
    for text in [*awkward, *random_texts(1500, 7)]:
        ids = ours.encode(text, allowed_special="all").tolist()
        assert ids == library.encode(text, add_special_tokens=False).ids, text


@pytest.mark.slow
def test_smollm2_on_a_hundred_thousand_strings(
    smollm2: Path, random_texts: RandomTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tokenizers` gives the same ids for all of them. llama.cpp does where a text holds neither a
    byte that the vocabulary lacks nor a letter that its tables do not know."""
    library, ours = converted_by_transformers(smollm2), load_gguf(smollm2)
    texts = list(random_texts(100_000, 9))
    for special in (False, True):
        library.encode_special_tokens = not special
        allowed = "all" if special else ()
        expected = [library.encode(text, add_special_tokens=False).ids for text in texts]
        for by_kernels in (True, False):
            monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda _, on=by_kernels: on)
            rows = ours.encode_batch(texts, allowed_special=allowed)
            assert [row.tolist() for row in rows] == expected
    llama_cpp = LlamaCpp(smollm2)
    for text, row in zip(texts, ours.encode_batch(texts), strict=True):
        kept = bytes(byte for byte in text.encode() if byte not in LACKING_IN_SMOLLM2)
        assert ours.decode_bytes(row) == kept, text
        if (
            "\0" not in text
            and len(kept) == len(text.encode())
            and text == known_to_llama_cpp(text)
        ):
            assert row.tolist() == llama_cpp.encode(text), text


def with_rule(source: Path, target: Path, name: str) -> Path:
    """A file's vocabulary under another rule for words."""
    values = read_metadata(source)
    writer = gguf.GGUFWriter(target, values["general.architecture"])
    for key, value in values.items():
        if key.startswith(("gpt2.", "llama.")):
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(values["tokenizer.ggml.tokens"])
    writer.add_token_types(values["tokenizer.ggml.token_type"].tolist())
    # Fewer merges than tokens: it makes a difference whether whole words are looked up.
    writer.add_token_merges(values["tokenizer.ggml.merges"][:20_000])
    writer.add_bos_token_id(values["tokenizer.ggml.eos_token_id"])
    writer.add_eos_token_id(values["tokenizer.ggml.eos_token_id"])
    return written(writer, target)


def written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


RULES = {rule.patterns: name for name, rule in reversed(PRE_TOKENIZERS.items())}


@pytest.mark.parametrize("name", RULES.values())
def test_each_rule_cuts_like_llama_cpp_or_like_the_model_s_own_tokenizer(
    name: str,
    vocabulary: Callable[[str], Path],
    tmp_path: Path,
    awkward: list[str],
    random_texts: RandomTexts,
) -> None:
    path = with_rule(vocabulary("gpt-2"), tmp_path / "rule.gguf", name)
    ours = load_gguf(path)
    marks = "".join(f"a{mark}b {mark}{mark} 1{mark}2\n" for mark in string.punctuation)
    texts = [marks, "international understanding", *awkward, *random_texts(300, 9)]
    if name not in OTHERWISE_IN_LLAMA_CPP:
        assert_same_as_llama_cpp(ours, path, map(known_to_llama_cpp, texts))
        return
    LlamaCpp(path)  # it knows the name
    cuts: list[Any] = [
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(oniguruma_pattern(one)), "isolated")
        for one in PRE_TOKENIZERS[name].patterns
    ]
    document = json.loads(json.dumps(ours.to_json()))
    library = tokenizers.Tokenizer.from_str(json.dumps(document))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(  # type: ignore[assignment]
        [*cuts, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    for text in texts:
        ids = ours.encode(text, allowed_special="all").tolist()
        assert ids == library.encode(text, add_special_tokens=False).ids


def test_every_name_of_a_rule_is_one_of_llama_cpp_s(tmp_path: Path) -> None:
    source = file_of(own_bpe(), tmp_path / "own.gguf")
    for name in PRE_TOKENIZERS:
        path = with_rule(source, tmp_path / "rule.gguf", name)
        begins = LlamaCpp(path).encode("a", special=True)[0] == 260
        assert begins == (load_gguf(path).template is not None), name


# Writing


def file_of(tokenizer: Tokenizer, path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    write_vocabulary(writer, tokenizer, chat_template="{{ messages }}")
    return written(writer, path)


def own_bpe() -> Tokenizer:
    text = "low lower lowest newer newest wide wider widest " * 9
    return ByteLevelBPE.train([text], 262, special_tokens=["<|endoftext|>", "<|im_start|>"])


def own_sentencepiece(family: type[Any], **options: Any) -> Tokenizer:
    pieces = [
        Piece("<unk>", 0, Kind.UNKNOWN),
        Piece("<s>", 0, Kind.CONTROL),
        Piece("</s>", 0, Kind.CONTROL),
        *(Piece(f"<0x{value:02X}>", 0, Kind.BYTE) for value in range(256)),
        *(Piece(text, -1.5 - i) for i, text in enumerate(["▁the", "▁t", "he", "▁c", "at", "▁cat"])),
        *(Piece(text, -9.0 - i) for i, text in enumerate("▁thecaso")),
    ]
    return family(pieces, SentencePieceSettings(byte_fallback=True, **options))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "build",
    [
        own_bpe,
        lambda: own_sentencepiece(SentencePieceBPE, remove_extra_whitespaces=False),
        lambda: own_sentencepiece(
            SentencePieceBPE, remove_extra_whitespaces=False, add_dummy_prefix=False
        ),
        lambda: WordPiece.bert(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "c", "##at", "[x]"]
        ),
    ],
)
def test_what_is_written_opens_here_and_in_llama_cpp(
    build: Callable[[], Tokenizer], tmp_path: Path, random_texts: RandomTexts
) -> None:
    ours = build()
    path = file_of(ours, tmp_path / "own.gguf")
    again = load_gguf(path)
    assert type(again) is type(ours)
    assert read_metadata(path)["tokenizer.chat_template"] == "{{ messages }}"
    texts = ["the cats  sat", "", " the ", "newest", "the <|im_start|>", *random_texts(200, 4)]
    for text in texts:
        assert again.encode(text).tolist() == ours.encode(text).tolist()
    plain = ["".join(c for c in text if c.isascii() and c.isprintable()) for text in texts]
    assert_same_as_llama_cpp(again, path, plain if isinstance(ours, WordPiece) else texts)


def test_a_unigram_with_its_character_map_survives(
    mirror: Mirror, tmp_path: Path, awkward: list[str], random_texts: RandomTexts
) -> None:
    ours = sentencepiece_model.read(mirror("tokenizers/sentencepiece/kyoto_ja_unigram_8000.model"))
    again = load_gguf(file_of(ours, tmp_path / "own.gguf"))
    assert isinstance(again, UnigramTokenizer)
    for text in [*awkward, "東京都に住む。", *random_texts(200, 4)]:
        assert again.encode(text).tolist() == ours.encode(text).tolist()


def test_a_vocabulary_with_unused_ids_survives(tmp_path: Path) -> None:
    ranks = {bytes([value]): value for value in range(256)}
    learned = {b"th": 256, b"in": 257, b"the": 258, b" the": 300}
    special = {"<|endoftext|>": 310, "<|end|>": 320}
    ours = ByteLevelBPE.from_ranks(ranks | learned, special, pattern="o200k")
    path = file_of(ours, tmp_path / "own.gguf")
    again = load_gguf(path)
    assert again.vocab_size == ours.vocab_size == 321
    assert_same_as_llama_cpp(again, path, ["the thin<|end|>", " the in 12the"])
    for allowed in ((), "all"):
        ids = ours.encode("the thin <|end|>", allowed_special=allowed).tolist()
        assert again.encode("the thin <|end|>", allowed_special=allowed).tolist() == ids
    with pytest.raises(TokenizerError, match="stands for nothing"):
        again.decode([305])


def test_what_llama_cpp_does_not_have_is_not_written(tmp_path: Path, mirror: Mirror) -> None:
    writer = gguf.GGUFWriter(tmp_path / "own.gguf", "llama")
    with pytest.raises(TokenizerError, match="a ByteTokenizer cannot be written"):
        write_vocabulary(writer, ByteTokenizer())
    cl100k = load_tiktoken(mirror("tokenizers/tiktoken/cl100k_base.tiktoken"))
    with pytest.raises(TokenizerError, match="no name for the pattern 'cl100k'"):
        write_vocabulary(writer, cl100k)
    botchan = sentencepiece_model.read(mirror("tokenizers/sentencepiece/botchan_en_bpe_1000.model"))
    with pytest.raises(TokenizerError, match="does not normalise text"):
        write_vocabulary(writer, botchan)


# Damage


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_are_those_of_the_gguf_package(
    name: str, vocabulary: Callable[[str], Path]
) -> None:
    path = vocabulary(name)
    ours = read_metadata(path)
    theirs = gguf.GGUFReader(path).fields
    assert [key for key in theirs if not key.startswith("GGUF.")] == list(ours)
    for key, value in ours.items():
        found = value.tolist() if isinstance(value, np.ndarray) else value
        assert found == theirs[key].contents(), key


SMALL: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [*own_bpe().to_json()["model"]["vocab"]],
    "tokenizer.ggml.merges": own_bpe().to_json()["model"]["merges"],
    "tokenizer.ggml.token_type": np.array([1] * 260 + [3, 3], np.int32),
    "tokenizer.ggml.eos_token_id": 260,
}


def test_a_small_vocabulary_by_hand() -> None:
    tokenizer = read(SMALL)
    assert tokenizer.special_tokens == {"<|endoftext|>": 260, "<|im_start|>": 261}
    assert (
        tokenizer.encode("low <|im_start|>").tolist()
        == own_bpe().encode("low <|im_start|>").tolist()
    )


def test_a_token_with_a_role_is_special_whatever_its_kind() -> None:
    ordinary = SMALL | {"tokenizer.ggml.token_type": np.ones(262, np.int32)}
    tokenizer = read(ordinary)
    assert tokenizer.special_tokens == {"<|endoftext|>": 260}
    assert 260 not in tokenizer.encode("<|endoftext|>")
    assert read({k: v for k, v in SMALL.items() if "type" not in k}).vocab_size == 262


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "tokenizer.ggml.model is missing"),
        ({"model": "rwkv"}, r"(?s)tokenizer.ggml.model = 'rwkv'.*gpt2, llama, bert, t5"),
        ({"pre": "new"}, r"(?s)tokenizer.ggml.pre = 'new'.*gpt-2"),
        ({"pre": 7}, "tokenizer.ggml.pre is missing, or no string"),
        ({"tokens": None}, "holds no vocabulary"),
        ({"tokens": []}, "holds no vocabulary"),
        ({"tokens": [*SMALL["tokenizer.ggml.tokens"][:-1], "a"]}, "ids .* are both 'a'"),
        ({"tokens": SMALL["tokenizer.ggml.tokens"][:-1]}, "has not a number for each token"),
        ({"merges": None}, "tokenizer.ggml.merges is not a list"),
        ({"merges": ["zz z"]}, "merge 0"),
        ({"merges": ["a b"]}, "makes no token"),
        ({"token_type": np.array([9] * 262)}, "holds 9, which is no kind"),
        ({"eos_token_id": 262}, "eos_token_id is 262: no token has it"),
        ({"eos_token_id": -1}, "no token has it"),
        ({"eos_token_id": 2.5}, "no token has it"),
        ({"add_bos_token": True}, "add_bos_token is set, but no token is named"),
        ({"add_eos_token": 1}, "not true or false"),
        ({"model": "llama"}, "no scores"),
        ({"model": "t5"}, "no scores"),
        ({"model": "bert"}, r"has no token \[UNK\]"),
    ],
)
def test_what_makes_no_sense_is_named(change: dict[str, Any], message: str) -> None:
    values = SMALL | {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(TokenizerError, match=message):
        read({name: value for name, value in values.items() if value is not None})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return file_of(own_bpe(), tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


def test_a_file_that_is_cut_anywhere_is_refused(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    end = small.rindex(b"}}") + 2
    for size in [*range(0, 200), *range(200, end, 37), end - 1]:
        path.write_bytes(small[:size])
        with pytest.raises(TokenizerError, match=r"cut off|is empty|is not a GGUF file"):
            load_gguf(path)


@settings(max_examples=300)
@given(data=st.data())
def test_a_file_with_anything_in_it_loads_or_is_refused(
    data: st.DataObject, small: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 8) | st.integers(0, 600))
        new = data.draw(
            st.binary(min_size=1, max_size=8)
            | st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n))
            | st.integers(0, 13).map(lambda n: struct.pack("<I", n))
        )
        changed[at : at + len(new)] = new
    path = tmp_path_factory.mktemp("fuzz") / "f.gguf"
    path.write_bytes(changed)
    try:
        tokenizer = load_gguf(path)
    except TokenizerError:
        return
    tokenizer.encode("low lower 12")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGML" + bytes(60), r"is not a GGUF file\nOne begins with the letters GGUF"),
        (b"", r"is empty\nCopy or download it again"),
        (b"GGUF" + bytes(4), r"is cut off or damaged.*\nCopy or download it again"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "bytes in reverse order"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "claims to hold"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no vocabulary"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 50) + bytes(99), "whose name has"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff" + bytes(99), "not UTF-8"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 13), "no type"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 11) + b"tokenizer.x"
            + struct.pack("<IIQ", 9, 8, 1 << 60) + bytes(99),
            "is cut off or damaged",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a"
            + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9 + bytes(99),
            "nested too deeply",
        ),
    ],
    ids=range(12),
)  # fmt: skip
def test_claims_are_not_believed(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as caught:
        load_gguf(path)
    assert caught.value.where == str(path)


def test_arrays_of_arrays_and_other_entries_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("other.nested", [[1, 2], [3]])
    writer.add_array("other.names", ["a", "b"])
    writer.add_float64("other.number", 0.5)
    write_vocabulary(writer, own_bpe())
    found = read_metadata(written(writer, path))
    assert found["other.nested"] is None
    assert (found["other.names"], found["other.number"]) == (["a", "b"], 0.5)
    assert load_gguf(path).vocab_size == 262
