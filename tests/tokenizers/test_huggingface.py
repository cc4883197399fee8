"""tokenizer.json: Hugging Face opens ours with the same ids, and we open theirs or say why not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE, ByteTokenizer, Tokenizer, load_tokenizer

TEXT = "the cat sat on the mat. the dog sat on the log, and the frog sat there too. " * 3
FAMILIES = [
    ByteTokenizer(),
    BasicBPE.train([TEXT], 290),
    ByteLevelBPE.train([TEXT], 280),
    ByteLevelBPE.train([TEXT], 281, special_tokens=["<|endoftext|>", "<|début 1|>"]),
]
families = pytest.mark.parametrize("tokenizer", FAMILIES, ids=lambda t: type(t).__name__)


@families
def test_hugging_face_gives_the_same_ids_and_text(
    tokenizer: Tokenizer,
    tmp_path: Path,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for text in [*awkward, TEXT, *random_texts(300, 3)]:
        ids = tokenizer.encode(text, allowed_special="all").tolist()
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text


@families
@pytest.mark.parametrize("model_type", [None, "gpt2", "qwen3", "llama"])
def test_transformers_opens_the_directory(
    tokenizer: Tokenizer, model_type: str | None, tmp_path: Path, awkward: list[str]
) -> None:
    tokenizer.save(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.eos_token_id == tokenizer.end_of_text
    assert len(theirs) == tokenizer.vocab_size
    for text in [*awkward, TEXT]:
        ids = tokenizer.encode(text, allowed_special="all").tolist()
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text


@families
def test_it_survives_saving(tokenizer: Tokenizer, tmp_path: Path, awkward: list[str]) -> None:
    tokenizer.save(tmp_path / "new" / "directory")
    loaded = load_tokenizer(tmp_path / "new" / "directory" / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.special_tokens == tokenizer.special_tokens
    for text in awkward:
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_a_file_that_hugging_face_wrote_opens_with_its_ids(
    tmp_path: Path, awkward: list[str]
) -> None:
    """Trained and saved there: special tokens first, and merges written as pairs."""
    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        [TEXT, *awkward], 320, special_tokens=["<|endoftext|>", "<|x|>"], show_progress=False
    )
    path = tmp_path / "theirs.json"
    theirs.save(str(path))
    document = json.loads(path.read_text("utf-8"))
    assert isinstance(document["model"]["merges"][0], list)
    ours = load_tokenizer(path)
    assert ours.special_tokens == {"<|endoftext|>": 0, "<|x|>": 1}
    for text in [*awkward, TEXT]:
        ids = ours.encode(text, allowed_special="all").tolist()
        assert ids == theirs.encode(text).ids


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return apply


UNSUPPORTED = [
    (change("normalizer", to={"type": "NFC"}), "normalizer = NFC"),
    (change("pre_tokenizer", to={"type": "Whitespace"}), "pre_tokenizer = Whitespace"),
    (change("pre_tokenizer", to=None), "pre_tokenizer = None"),
    (change("pre_tokenizer", "add_prefix_space", to=True), "pre_tokenizer.add_prefix_space = True"),
    (change("decoder", to={"type": "Metaspace"}), "decoder = Metaspace"),
    (change("post_processor", to={"type": "TemplateProcessing"}), "post_processor = Template"),
    (change("truncation", to={"max_length": 8}), "truncation ="),
    (change("padding", to={"strategy": "BatchLongest"}), "padding ="),
    (change("model", "dropout", to=0.1), "model.dropout = 0.1"),
    (change("model", "end_of_word_suffix", to="</w>"), "model.end_of_word_suffix = '</w>'"),
    (change("model", "continuing_subword_prefix", to="##"), "model.continuing_subword_prefix"),
    (change("model", "byte_fallback", to=True), "model.byte_fallback = True"),
    (change("model", "ignore_merges", to=True), "model.ignore_merges = True"),
    (change("model", "surprise", to=1), "model.surprise = 1"),
    (change("surprise", to={"type": "New"}), "surprise = New"),
    (change("added_tokens", 0, "lstrip", to=True), r"added_tokens\[0\].lstrip = True"),
    (change("added_tokens", 0, "special", to=False), r"added_tokens\[0\].special = False"),
    (change("model", "type", to="Unigram"), "holds a Unigram tokenizer"),
    (change("model", "type", to="WordPiece"), "holds a WordPiece tokenizer"),
]
INCONSISTENT = [
    (change("model", to=None), "has no model"),
    (change("model", "vocab", to=["a"]), "model.vocab is not an object"),
    (change("model", "vocab", "!", to="0"), "the id of token '!' is '0', not an integer"),
    (change("model", "vocab", "!", to=True), "the id of token '!' is True"),
    (change("model", "vocab", "!", to=1), "id 1 stands for"),
    (change("model", "vocab", "!", to=-1), "no token has id 0"),
    (change("model", "vocab", "zz", to=999), "no token has id 280"),
    (change("model", "vocab", "\ud800", to=280), "lone surrogate, U\\+D800"),
    (change("pre_tokenizer", "type", to=True), "pre_tokenizer = "),
    (change("added_tokens", to=7), "added_tokens is not a list"),
    (change("model", "vocab", "z z", to=280), "is not written in GPT-2's alphabet"),
    (change("model", "vocab", "<|endoftext|>", to=280), "has id 280 in model.vocab and 279"),
    (change("added_tokens", 0, "id", to=999), "in model.vocab and 999 besides"),
    (change("added_tokens", 0, to="<|endoftext|>"), r"added_tokens\[0\] is not an object"),
    (change("added_tokens", 0, "content", to=None), "no content or no id"),
    (change("model", "merges", to=None), "model.merges is not a list"),
    (change("model", "merges", 3, to="a"), "merge 3, 'a', is not a pair"),
    (change("model", "merges", 3, to=["a", "zzz"]), "merge 3, .* is not a pair"),
    (change("model", "merges", 3, to=[["a"], "b"]), "merge 3, .* is not a pair"),
    (change("model", "merges", 3, to=7), "merge 3, 7, is not a pair"),
    (change("model", "merges", 0, to="< |"), "makes no token"),
    (change("model", "vocab", to={}), "no token has id 0"),
    (change("pre_tokenizer", "use_regex", to=False), "must begin with bytes 0 to 255"),
]


@pytest.mark.parametrize(("damage", "message"), [*UNSUPPORTED, *INCONSISTENT])
def test_what_we_do_not_have_or_makes_no_sense_is_named(
    damage: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    document = copy.deepcopy(FAMILIES[2].to_json())
    damage(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(path)
    assert caught.value.where == str(path)


def test_other_families_of_the_mirror_are_named(mirror: Callable[[str], Path]) -> None:
    with pytest.raises(TokenizerError, match="holds a WordPiece tokenizer"):
        load_tokenizer(mirror("tokenizers/bert/tokenizer.json"))
    with pytest.raises(TokenizerError, match="holds a Unigram tokenizer"):
        load_tokenizer(mirror("tokenizers/t5/flan-t5-tokenizer.json"))


def test_two_tokens_written_alike_are_refused() -> None:
    """``Ġ`` is how GPT-2's alphabet writes the space, so no special token can be called so."""
    with pytest.raises(TokenizerError, match="both written 'Ġ'"):
        ByteLevelBPE.train([TEXT], 280, special_tokens=["Ġ"]).to_json()
