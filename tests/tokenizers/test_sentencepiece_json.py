from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.formats.sentencepiece_model import read
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings, byte_piece
from stemma.tokenizers.steps.template import Special, Template, Text
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

FILES = [
    "tokenizers/sentencepiece/botchan_en_bpe_1000.model",
    "tokenizers/sentencepiece/botchan_en_unigram_1000.model",
    "tokenizers/sentencepiece/kyoto_ja_unigram_8000.model",
]
SPECIAL = [Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("</s>", 0.0, Kind.CONTROL)]
LETTERS = [Piece(c, -float(i + 1)) for i, c in enumerate(["a", "▁", "b", "ab", "▁a"])]
FAMILIES = [UnigramTokenizer, SentencePieceBPE]


def hugging_face(tokenizer: SentencePieceTokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))


@pytest.mark.parametrize("file", FILES)
def test_real_models_give_the_same_ids_on_prose(file: str, mirror: Callable[[str], Path]) -> None:
    ours = read(mirror(file))
    theirs = hugging_face(ours)
    for line in mirror("text/sherlock.txt").read_text("utf-8").split("\n")[:400]:
        ids = ours.encode(line).tolist()
        assert ids == theirs.encode(line).ids, line
        assert ours.decode(ids).replace(" ⁇ ", "<unk>") == theirs.decode(ids), line


@pytest.mark.parametrize("file", FILES[:2])
@pytest.mark.parametrize("remove_extra", [True, False])
@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_any_unicode_without_a_character_map(
    file: str,
    *,
    remove_extra: bool,
    dummy_prefix: bool,
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    model = read(mirror(file))
    settings = SentencePieceSettings(
        remove_extra_whitespaces=remove_extra, add_dummy_prefix=dummy_prefix
    )
    ours = type(model)(model.pieces, settings)
    theirs = hugging_face(ours)
    for text in [*awkward, " ▁ a  ▁▁ ", *random_texts(200, 8)]:
        assert ours.encode(text).tolist() == theirs.encode(text).ids, text


def test_llamas_vocabulary(
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    path = mirror("tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf")
    fields = gguf.GGUFReader(path).fields
    names = ("tokens", "scores", "token_type")
    tokens, scores, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in names)
    pieces = [Piece(*row) for row in zip(tokens, scores, map(Kind, kinds), strict=True)]
    settings = SentencePieceSettings(remove_extra_whitespaces=False, byte_fallback=True)
    ours = SentencePieceBPE(pieces, settings)
    theirs = hugging_face(ours)
    for text in [*awkward, *(" " * n + "x" for n in range(40)), *random_texts(500, 9)]:
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode(text).ids, text
        assert ours.decode(ids) == theirs.decode(ids), text


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_characters_on_both_sides_of_an_unknown_space(
    family: type[SentencePieceTokenizer],
) -> None:
    letters = [Piece("a", -1.0), Piece("b", -2.0), Piece("ab", -3.0)]
    ours = family([*SPECIAL, *letters])
    theirs = hugging_face(ours)
    for text in ["x y a", "a x  b", " x", "a b", "ab x"]:
        assert ours.encode(text).tolist() == theirs.encode(text).ids, text
    assert ours.encode("x y a").tolist() == [0, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_stands_around(family: type[SentencePieceTokenizer]) -> None:
    template = Template((Text(), Special("</s>", (1,))))
    ours = family(SPECIAL + LETTERS, template=template)
    theirs = hugging_face(ours)
    assert theirs.encode("ab</s>a").ids == [*ours.encode("ab</s>a", allowed_special="all"), 1]
    with_template = ours.encode("ab", add_special_tokens=True)
    assert theirs.encode("ab").ids == with_template.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_place_there(family: type[SentencePieceTokenizer]) -> None:
    def complaint(pieces: list[Piece], settings: SentencePieceSettings | None = None) -> str:
        with pytest.raises(TokenizerError, match=r"has no place in tokenizer\.json") as caught:
            family(pieces, settings).to_json()
        assert ".model" in str(caught.value)
        return str(caught.value)

    plain = SentencePieceSettings()
    pieces = SPECIAL + LETTERS
    assert "suffix" in complaint(pieces, replace(plain, treat_whitespace_as_suffix=True))
    assert "escape" in complaint(pieces, replace(plain, escape_whitespaces=False))
    assert "'x'" in complaint([*pieces, Piece("x", 0.0, Kind.UNUSED)])
    assert "'</s>'" in complaint([*pieces, Piece("</s>", -9.0)])
    assert family(pieces).to_json()["model"]["type"] in ("Unigram", "BPE")


def test_what_has_no_place_in_a_list_of_merges() -> None:
    for piece, complaint in [
        (Piece("x", 0.0, Kind.USER_DEFINED), "user-defined"),
        (Piece("ba", LETTERS[3].score), "the same score"),
        (Piece("ax", -9.0), "'x' is no piece"),
    ]:
        with pytest.raises(TokenizerError, match=complaint):
            SentencePieceBPE([*SPECIAL, *LETTERS, piece]).to_json()


def test_a_user_defined_piece_of_a_unigram_model(mirror: Callable[[str], Path]) -> None:
    pieces = [*SPECIAL, *LETTERS, Piece("ba", 0.0, Kind.USER_DEFINED)]
    ours = UnigramTokenizer(pieces)
    theirs = hugging_face(ours)
    for text in ("aba", "abba ba", "c"):
        assert ours.encode(text).tolist() == theirs.encode(text).ids
    rewritten = [*pieces, Piece("ﬁ", 0.0, Kind.USER_DEFINED)]
    with pytest.raises(TokenizerError, match="'ﬁ', which the rules rewrite"):
        UnigramTokenizer(rewritten, read(mirror(FILES[0])).settings).to_json()


def test_byte_fallback_of_a_unigram_model() -> None:
    in_bytes = [Piece(byte_piece(value), 0.0, Kind.BYTE) for value in range(256)]
    settings = SentencePieceSettings(byte_fallback=True)
    ours = UnigramTokenizer([*SPECIAL, *in_bytes, *LETTERS], settings)
    theirs = hugging_face(ours)
    for text in ("a é b", "你你", "\x00a"):
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)


def test_saving_writes_a_directory(tmp_path: Path) -> None:
    ours = UnigramTokenizer(SPECIAL + LETTERS)
    ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("ab ba").ids == ours.encode("ab ba").tolist()
