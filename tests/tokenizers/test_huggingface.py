"""tokenizer.json: Hugging Face opens ours with the same ids, and we open theirs or say why not."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE, ByteTokenizer, Tokenizer, load_tokenizer
from stemma.tokenizers.formats import huggingface
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = "the cat sat on the mat. the dog sat on the log, and the frog sat there too. " * 3
MORE = [
    TEXT,
    "Tokenizers don't always agree: 12 or 345 cats' whiskers, naïve café, ＡＢＣ, ünïcödé …",
    "你好，世界。こんにちは、世界！안녕하세요 मानक हिन्दी ไม่มี",
    "if x == 1:\n    return  y\t# 3.14\r\n",
]
OWN = [
    ByteTokenizer(),
    BasicBPE.train([TEXT], 290),
    ByteLevelBPE.train([TEXT], 280),
    ByteLevelBPE.train([TEXT], 281, special_tokens=["<|endoftext|>", "<|début 1|>"]),
]
own = pytest.mark.parametrize("tokenizer", OWN, ids=lambda t: type(t).__name__)
RandomTexts = Callable[[int, int], Iterator[str]]


@own
def test_hugging_face_gives_the_same_ids_and_text(
    tokenizer: Tokenizer, tmp_path: Path, awkward: list[str], random_texts: RandomTexts
) -> None:
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for text in [*awkward, TEXT, *random_texts(300, 3)]:
        ids = tokenizer.encode(text, allowed_special="all").tolist()
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text


@own
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


@own
def test_it_survives_saving(tokenizer: Tokenizer, tmp_path: Path, awkward: list[str]) -> None:
    tokenizer.save(tmp_path / "new" / "directory")
    loaded = load_tokenizer(tmp_path / "new" / "directory" / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.special_tokens == tokenizer.special_tokens
    for text in awkward:
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()


# Files of the library: one for each way of using it.

SPECIAL = ["<unk>", "<s>", "</s>", "<mask>"]
ADDED = [
    tokenizers.AddedToken("<mask>", lstrip=True, rstrip=True, special=True),
    tokenizers.AddedToken("<think>", normalized=False, special=False),
    tokenizers.AddedToken("cats", single_word=True, normalized=False, special=False),
    tokenizers.AddedToken("   ", normalized=False, special=False),
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel.alphabet()


def trained(model: Any, trainer: Any, **steps: Any) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    for name, step in steps.items():
        setattr(tokenizer, name, step)
    tokenizer.train_from_iterator(MORE, trainer)
    tokenizer.add_tokens(ADDED)
    return tokenizer


def byte_level(cut: Any = None, **steps: Any) -> tokenizers.Tokenizer:
    return trained(
        models.BPE(**{name: steps.pop(name) for name in ("ignore_merges",) if name in steps}),
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, show_progress=False, initial_alphabet=BYTES
        ),
        pre_tokenizer=cut or pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        **steps,
    )


def without_merges(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    document = json.loads(tokenizer.to_str())
    del document["model"]["merges"][20:]
    return tokenizers.Tokenizer.from_str(json.dumps(document))


def isolated(*patterns: str) -> Any:
    cuts = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, last])


def characters(**steps: Any) -> tokenizers.Tokenizer:
    names = ("unk_token", "fuse_unk", "byte_fallback", "end_of_word_suffix")
    model = models.BPE(**{name: steps.pop(name) for name in names if name in steps})
    bytes_ = [f"<0x{value:02X}>" for value in range(256)] if model.byte_fallback else []
    tokenizer = trained(
        model,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=[*SPECIAL, *bytes_],
            show_progress=False,
            limit_alphabet=40,
            **({"end_of_word_suffix": "</w>"} if model.end_of_word_suffix else {}),
        ),
        **steps,
    )
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] not in bytes_]
    return tokenizers.Tokenizer.from_str(json.dumps(document))


def unigram(*, byte_fallback: bool = False, **steps: Any) -> tokenizers.Tokenizer:
    tokenizer = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        ),
        **steps,
    )
    document = json.loads(tokenizer.to_str())
    if byte_fallback:
        pieces = [[f"<0x{value:02X}>", -9.0] for value in range(256)]
        first = len(document["model"]["vocab"])
        document["model"]["vocab"] += pieces
        document["model"]["byte_fallback"] = True
        for token in document["added_tokens"]:
            token["id"] += 256 if token["id"] >= first else 0
    return tokenizers.Tokenizer.from_str(json.dumps(document))


def wordpiece(**steps: Any) -> tokenizers.Tokenizer:
    return trained(
        models.WordPiece(unk_token="<unk>", max_input_chars_per_word=20),
        trainers.WordPieceTrainer(
            vocab_size=200, special_tokens=SPECIAL, show_progress=False, limit_alphabet=50
        ),
        **steps,
    )


LLAMA_DECODER = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)
PAIR = processors.TemplateProcessing(
    single="<s> $A </s>",
    pair="<s> $A </s> $B:1 </s>:1",
    special_tokens=[("<s>", 1), ("</s>", 2)],
)
THEIRS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "gpt-2": byte_level,
    "gpt-2 with NFC and a template": lambda: byte_level(
        normalizer=normalizers.NFC(),
        post_processor=processors.Sequence([processors.ByteLevel(), PAIR]),
    ),
    "llama-3": lambda: byte_level(isolated(LLAMA3), ignore_merges=True),
    "llama-3, with words that no merge makes": lambda: without_merges(
        byte_level(isolated(LLAMA3), ignore_merges=True)
    ),
    "smollm": lambda: byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "starcoder": lambda: byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(False), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "deepseek": lambda: byte_level(isolated("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\p{N}")),
    "bloom": lambda: byte_level(isolated(r" ?[^(\s|.,!?…。，、।۔،)]+")),
    "bytes without words": lambda: byte_level(isolated()),
    "llama-2": lambda: characters(
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=LLAMA_DECODER,
        post_processor=PAIR,
    ),
    "gemma": lambda: characters(
        unk_token="<unk>",
        byte_fallback=True,
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
        decoder=LLAMA_DECODER,
    ),
    "gpt-1": lambda: characters(
        unk_token="<unk>",
        end_of_word_suffix="</w>",
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.BPEDecoder(),
    ),
    "characters, unknown ones left out": lambda: characters(
        pre_tokenizer=pre_tokenizers.Whitespace()
    ),
    "t5": lambda: unigram(
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Metaspace(),
        normalizer=normalizers.NFKC(),
        post_processor=PAIR,
    ),
    "unigram with bytes": lambda: unigram(
        byte_fallback=True,
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        decoder=LLAMA_DECODER,
    ),
    "xlnet": lambda: unigram(
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        ),
        decoder=decoders.Metaspace(),
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
    ),
    "bert": lambda: wordpiece(
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
        post_processor=processors.BertProcessing(("</s>", 2), ("<s>", 1)),
    ),
    "words on punctuation": lambda: wordpiece(
        normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()]),
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")]
        ),
        post_processor=processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
    ),
}


def with_added(texts: Iterable[str], names: list[str], seed: int) -> Iterator[str]:
    generator = random.Random(seed)
    for text in texts:
        yield text
        at = generator.randint(0, len(text))
        gap = ["", " ", "\u00a0 ", "x"]
        middle = generator.choice(gap) + generator.choice(names) + generator.choice(gap)
        yield text[:at] + middle + text[at:]


def assert_same(ours: Tokenizer, theirs: tokenizers.Tokenizer, texts: Iterable[str]) -> None:
    for text in texts:
        ids = ours.encode(text, allowed_special="all").tolist()
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ids == expected, text
        surrounded = ours.encode(text, allowed_special="all", add_special_tokens=True).tolist()
        assert surrounded == theirs.encode(text).ids, text
        for skip in (True, False):
            joined = theirs.decode(ids, skip_special_tokens=skip)
            if "\ufffd" not in joined:
                assert ours.decode(ids, skip_special_tokens=skip) == joined, text


@pytest.mark.parametrize("name", THEIRS)
def test_files_of_the_library_open_with_its_ids(
    name: str, tmp_path: Path, awkward: list[str], random_texts: RandomTexts
) -> None:
    theirs = THEIRS[name]()
    theirs.save(str(tmp_path / "theirs.json"))
    ours = load_tokenizer(tmp_path / "theirs.json")
    names = [token.content for token in ours.added_tokens]
    texts = list(with_added([*MORE, *awkward, *random_texts(150, 3)], names, 4))
    assert_same(ours, theirs, texts)
    # Written again, it is opened there and here with the same ids.
    ours.save(tmp_path / "again")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert_same(ours, again, texts)
    loaded = load_tokenizer(tmp_path / "again")
    assert type(loaded) is type(ours)
    assert loaded.fingerprint == ours.fingerprint
    assert_same(loaded, theirs, texts[:60])


PUBLISHED = pytest.mark.parametrize(
    "path", ["gpt2/tokenizer.json", "bert/tokenizer.json", "t5/flan-t5-tokenizer.json"]
)


@PUBLISHED
def test_published_files_open_with_the_library_s_ids(
    path: str,
    mirror: Callable[[str], Path],
    tmp_path: Path,
    awkward: list[str],
    random_texts: RandomTexts,
) -> None:
    file = mirror(f"tokenizers/{path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = load_tokenizer(file)
    theirs = tokenizers.Tokenizer.from_file(str(file))
    theirs.no_truncation()
    theirs.no_padding()
    names = [token.content for token in ours.added_tokens]
    texts = list(with_added([*MORE, *awkward, *random_texts(1500, 6)], names, 5))
    assert_same(ours, theirs, texts)
    ours.save(tmp_path)
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert_same(ours, again, texts[:200])
    assert load_tokenizer(tmp_path).fingerprint == ours.fingerprint


@pytest.mark.slow
@PUBLISHED
def test_published_files_on_a_hundred_thousand_strings(
    path: str,
    *,
    mirror: Callable[[str], Path],
    random_texts: Callable[[int, int], Iterator[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = mirror(f"tokenizers/{path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = load_tokenizer(file)
    theirs = tokenizers.Tokenizer.from_file(str(file))
    theirs.no_truncation()
    theirs.no_padding()
    names = [token.content for token in ours.added_tokens]
    texts = list(with_added(random_texts(50_000, 7), names, 6))
    expected = [theirs.encode(text, add_special_tokens=False).ids for text in texts]
    for by_kernels in (True, False):
        monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda _, on=by_kernels: on)
        found = ours.encode_batch(texts, allowed_special="all")
        for text, ids, wanted in zip(texts, found, expected, strict=True):
            assert ids.tolist() == wanted, (by_kernels, text)


@pytest.mark.parametrize("name", THEIRS)
def test_a_special_token_in_a_text_is_text_unless_allowed(name: str) -> None:
    ours = huggingface.read(json.loads(THEIRS[name]().to_str()))
    special = set(ours.special_tokens.values())
    unknown = {ours.special_tokens["<unk>"]}
    for text in ("<s>", "a</s>", "<mask> <s><s>", "<s>ab"):
        assert not (special - unknown) & set(ours.encode(text).tolist())
    assert ours.special_tokens["<s>"] in ours.encode("<s>", allowed_special="all")


def test_texts_are_neither_cut_nor_padded_and_of_cutting_it_is_said() -> None:
    theirs = byte_level()
    theirs.enable_truncation(2)
    theirs.enable_padding(length=9)
    document = json.loads(theirs.to_str())
    with pytest.warns(UserWarning, match="other tools cut texts to 2 tokens") as caught:
        ours = huggingface.read(document)
    assert len(caught) == 1
    assert len(ours.encode("a b c d")) > 2


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return apply


UNSUPPORTED = [
    (change("normalizer", to={"type": "ByteLevel"}), "normalizer = ByteLevel"),
    (change("pre_tokenizer", to={"type": "Whitespace"}), "pre_tokenizer = Whitespace"),
    (change("pre_tokenizer", to=None), "pre_tokenizer = null"),
    (change("pre_tokenizer", "add_prefix_space", to=True), "pre_tokenizer.add_prefix_space = true"),
    (change("decoder", to={"type": "Metaspace"}), "decoder = Metaspace"),
    (change("decoder", to=None), "decoder = null"),
    (change("post_processor", to={"type": "New"}), "post_processor = New"),
    (change("model", "dropout", to=0.1), "model.dropout = 0.1"),
    (change("model", "end_of_word_suffix", to="</w>"), 'model.end_of_word_suffix = "</w>"'),
    (change("model", "continuing_subword_prefix", to="##"), "model.continuing_subword_prefix"),
    (change("model", "byte_fallback", to=True), "model.byte_fallback = true"),
    (change("model", "surprise", to=1), "model.surprise = 1"),
    (change("surprise", to={"type": "New"}), "surprise = New"),
    (change("added_tokens", 0, "new", to=True), r"added_tokens\[0\].new = true"),
    (change("model", "type", to="Surprise"), "holds a Surprise tokenizer"),
]
STEPS_REFUSED = [
    {"type": "WhitespaceSplit"},
    {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": False},
    {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": True},
    {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Contiguous", "invert": False},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
]
INCONSISTENT = [
    (change("model", to=None), "has no model"),
    (change("model", "vocab", to=["a"]), "model.vocab is not an object"),
    (change("model", "vocab", "!", to="0"), "the id of token '!' is \"0\", not an integer"),
    (change("model", "vocab", "!", to=True), "the id of token '!' is true"),
    (change("model", "vocab", "!", to=1), "id 1 stands for"),
    (change("model", "vocab", "!", to=-1), "the id of token '!' is -1, out of bounds"),
    (change("model", "vocab", "!", to=10**30), "out of bounds"),
    (change("model", "vocab", "zz", to=10_000_000), "the highest id, 10000000, is too high"),
    (change("model", "vocab", "zz", to=999), "no token has id 280"),
    (change("model", "vocab", "", to=280), "a token without text"),
    (change("model", "vocab", "\ud800", to=280), "lone surrogate, U\\+D800"),
    (change("pre_tokenizer", "type", to=True), "pre_tokenizer = "),
    (change("added_tokens", to=7), "added_tokens is 7, not a list"),
    (change("model", "vocab", "z z", to=280), "is not written in GPT-2's alphabet"),
    (change("model", "vocab", "<|endoftext|>", to=280), "has id 280 in model.vocab and 279"),
    (change("added_tokens", 0, "id", to=999), "in model.vocab and 999 besides"),
    (change("added_tokens", 0, to="<|endoftext|>"), r"added_tokens\[0\] is .*, not an object"),
    (change("added_tokens", 0, "content", to=None), "content is null, not a string"),
    (change("added_tokens", 0, "id", to=-1), "not an integer from 0"),
    (change("added_tokens", 0, "special", to=1), "is 1, not true or false"),
    (change("model", "merges", to=None), "model.merges is not a list"),
    (change("model", "merges", 3, to="a"), 'merge 3, "a", is not a pair'),
    (change("model", "merges", 3, to="a b c"), 'merge 3, "a b c", is not a pair'),
    (change("model", "merges", 3, to="a\nb"), "merge 3, .* is not a pair"),
    (change("model", "merges", 3, to=["a", "zzz"]), "merge 3, .* is not a pair"),
    (change("model", "merges", 3, to=[["a"], "b"]), "merge 3, .* is not a pair"),
    (change("model", "merges", 3, to=7), "merge 3, 7, is not a pair"),
    (change("model", "merges", 0, to="< |"), "makes no token"),
    (change("model", "vocab", to={}), r"merge 0, .* is not a pair"),
    (change("model", "type", to=["BPE"]), r"model.type is .*, not a string"),
]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *UNSUPPORTED,
        *INCONSISTENT,
        *(
            (
                change("pre_tokenizer", to={"type": "Sequence", "pretokenizers": [step, byte]}),
                "asks for pre_tokenizer|spells the text as bytes",
            )
            for step in STEPS_REFUSED
            for byte in STEPS_REFUSED[-1:]
        ),
    ],
)
def test_what_we_do_not_have_or_makes_no_sense_is_named(
    damage: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    document = copy.deepcopy(OWN[2].to_json())
    damage(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("t5", change("model", "vocab", to={}), r"model.vocab is not a list"),
        ("t5", change("model", "vocab", 5, to=["a"]), r"vocab\[5\] is .*, not \[piece, score\]"),
        ("t5", change("model", "vocab", 5, to=["a", "b"]), "the score of piece 5"),
        ("t5", change("model", "vocab", 5, to=["", 0.0]), "piece 5|without text|empty"),
        ("t5", change("model", "vocab", 6, to=["<s>", 0.0]), "'<s>' comes twice|stands for"),
        ("t5", change("model", "unk_id", to=1000), "there is no piece 1000"),
        ("t5", change("model", "unk_id", to="a"), "not an integer"),
        ("t5", change("added_tokens", 5, "id", to=4000), "without a gap"),
        ("t5", change("added_tokens", 1, "content", to="<x>"), "stands for '<s>' and for '<x>'"),
        ("t5", change("model", "surprise", to=3), "model.surprise = 3"),
        ("t5", change("model", "type", to=""), "does not say of what type its model is"),
        ("t5", change("post_processor", "special_tokens", "<s>", "ids", to=[7]), "at its id 7"),
        (
            "bert",
            change("added_tokens", 0, to={"id": 0, "content": "<UNK>", "normalized": True}),
            "holds '<unk>', which stemma does not do|stands for",
        ),
        ("bert", change("model", "max_input_chars_per_word", to=-1), "not an integer from 0"),
        ("bert", change("model", "vocab", "zzz", to=400), "no token has id|higher ids"),
        ("gpt-1", change("model", "dropout", to=0.5), "dropout"),
        ("gpt-1", change("model", "vocab", "zzz", to=400), "no token has id"),
        ("gpt-1", change("decoder", to={"type": "ByteLevel"}), "pre_tokenizer = BertPreTok"),
        ("llama-2", change("model", "byte_fallback", to=1), "not true or false"),
    ],
)
def test_so_is_it_in_other_families(
    name: str, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = json.loads(THEIRS[name]().to_str())
    damage(document)
    with pytest.raises(TokenizerError, match=message):
        huggingface.read(document)


def test_a_token_for_bytes_that_have_none_is_refused() -> None:
    document = copy.deepcopy(OWN[2].to_json())
    document["model"]["unk_token"] = "<|endoftext|>"
    assert huggingface.read(document).fingerprint == OWN[2].fingerprint
    document["model"]["vocab"]["ĆĆ"] = document["model"]["vocab"].pop("Ć")
    with pytest.raises(TokenizerError, match=r"asks for model\.unk_token"):
        huggingface.read(document)


def test_old_files_name_no_type_and_write_merges_as_strings() -> None:
    document = json.loads(byte_level().to_str())
    merges = document["model"]["merges"]
    assert isinstance(merges[0], list)
    del document["model"]["type"]
    document["model"]["merges"] = [" ".join(pair) for pair in merges]
    expected = huggingface.read(json.loads(byte_level().to_str()))
    assert huggingface.read(document).fingerprint == expected.fingerprint
    document["model"]["merges"][5] = merges[5]  # and both in one
    assert huggingface.read(document).fingerprint == expected.fingerprint


def test_ids_between_added_tokens_may_be_unused() -> None:
    """As in cl100k, whose special tokens leave gaps."""
    document = copy.deepcopy(OWN[3].to_json())
    document["model"]["vocab"]["<|début 1|>"] = 290
    document["added_tokens"][1]["id"] = 290
    tokenizer = huggingface.read(document)
    assert tokenizer.vocab_size == 291
    assert tokenizer.decode([290]) == "<|début 1|>"
    assert huggingface.read(tokenizer.to_json()).fingerprint == tokenizer.fingerprint


def test_two_tokens_written_alike_are_refused() -> None:
    """``Ġ`` is how GPT-2's alphabet writes the space, so no special token can be called so."""
    with pytest.raises(TokenizerError, match="both written 'Ġ'"):
        ByteLevelBPE.train([TEXT], 280, special_tokens=["Ġ"]).to_json()


@pytest.mark.parametrize("depth", [10, 600, 100_000])
def test_nesting_without_end_is_refused(depth: int, tmp_path: Path) -> None:
    begin, end = '{"type": "Sequence", "pretokenizers": [', "]}"
    document = json.dumps(OWN[2].to_json() | {"pre_tokenizer": "HERE"})
    path = tmp_path / "tokenizer.json"
    path.write_text(document.replace('"HERE"', begin * depth + end * depth))
    with pytest.raises(TokenizerError, match=r"nested too deeply|pre_tokenizer|recursion"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Strip(),
        normalizers.Strip(left=True, right=False),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        normalizers.BertNormalizer(),
    ],
    ids=["strip", "strip left", "accents", "bert"],
)
def test_a_text_that_lost_its_first_character_has_no_prefix(
    normalizer: normalizers.Normalizer, tmp_path: Path
) -> None:
    scores = {"<unk>": -5.0, "▁": -2.0, "a": -1.5, "▁a": -1.0, "b": -1.5, "ab": -2.2}
    theirs = tokenizers.Tokenizer(models.Unigram([*scores.items()], 0))
    theirs.normalizer = normalizer
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    theirs.add_tokens(["<x>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    generator = random.Random(0)
    for size in [*range(8)] * 40:
        text = "".join(generator.choices([" ", "a", "b", "\u0301", "\xad", "<x>"], k=size))
        expected = theirs.encode(text).ids
        assert ours.encode(text).tolist() == expected, text
        assert ours.encode_with_offsets(text)[0].tolist() == expected, text
