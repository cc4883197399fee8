"""Normalisers, compared with those of Hugging Face's library on any text."""

from __future__ import annotations

import base64
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.steps import normalizers
from stemma.tokenizers.steps.normalizers import (
    NFC,
    NFD,
    NFKC,
    NFKD,
    BertNormalizer,
    Lowercase,
    Nmt,
    Normalizer,
    Precompiled,
    Prepend,
    Replace,
    Sequence,
    Strip,
    StripAccents,
)
from stemma.tokenizers.unicode import classes, properties
from tokenizers import Regex, models
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import normalizers as huggingface
from tokenizers import pre_tokenizers as huggingface_pre_tokenizers

Pair = tuple[Normalizer, Any]
PAIRS: dict[str, Pair] = {
    "NFC": (NFC(), huggingface.NFC()),
    "NFD": (NFD(), huggingface.NFD()),
    "NFKC": (NFKC(), huggingface.NFKC()),
    "NFKD": (NFKD(), huggingface.NFKD()),
    "Lowercase": (Lowercase(), huggingface.Lowercase()),
    "StripAccents": (StripAccents(), huggingface.StripAccents()),
    "Strip": (Strip(), huggingface.Strip()),
    "Strip left": (Strip(True, False), huggingface.Strip(True, False)),
    "Strip right": (Strip(False, True), huggingface.Strip(False, True)),
    "Prepend": (Prepend("▁"), huggingface.Prepend("▁")),
    "Prepend two": (Prepend("é-"), huggingface.Prepend("é-")),
    "Replace": (Replace(" ", "▁"), huggingface.Replace(" ", "▁")),
    "Replace two": (Replace("``", '"'), huggingface.Replace("``", '"')),
    "Replace by more": (Replace("a", "éa"), huggingface.Replace("a", "éa")),
    "Replace nothing": (Replace("", "-"), huggingface.Replace("", "-")),
    "Replace runs": (Replace(" {2,}", " ", True), huggingface.Replace(Regex(" {2,}"), " ")),
    "Replace class": (Replace(r"\s", "$0", True), huggingface.Replace(Regex(r"\s"), "$0")),
    "Replace empty": (Replace(r"\p{M}*", "|", True), huggingface.Replace(Regex(r"\p{M}*"), "|")),
    "Nmt": (Nmt(), huggingface.Nmt()),
    "Bert": (BertNormalizer(), huggingface.BertNormalizer()),
    "Bert cased": (
        BertNormalizer(lowercase=False),
        huggingface.BertNormalizer(lowercase=False),
    ),
    "Bert accents": (
        BertNormalizer(False, False, True, False),
        huggingface.BertNormalizer(False, False, True, False),
    ),
    "Bert no accents": (
        BertNormalizer(strip_accents=False),
        huggingface.BertNormalizer(strip_accents=False),
    ),
    "Bert nothing": (
        BertNormalizer(False, False, None, False),
        huggingface.BertNormalizer(False, False, None, False),
    ),
    "Sequence": (
        Sequence([NFKD(), StripAccents(), Lowercase()]),
        huggingface.Sequence(
            [huggingface.NFKD(), huggingface.StripAccents(), huggingface.Lowercase()]
        ),
    ),
    "Llama": (
        Sequence([Prepend("▁"), Replace(" ", "▁")]),
        huggingface.Sequence([huggingface.Prepend("▁"), huggingface.Replace(" ", "▁")]),
    ),
    "Sequence of none": (Sequence([]), huggingface.Sequence([])),
}


@pytest.fixture(scope="module")
def t5_map(mirror: Callable[[str], Path]) -> bytes:
    document = json.loads(mirror("tokenizers/t5/flan-t5-tokenizer.json").read_bytes())
    return base64.b64decode(document["normalizer"]["normalizers"][0]["precompiled_charsmap"])


def _codes(*sets: tuple[classes.Range, ...]) -> list[int]:
    members = [code for one in sets for first, last in one for code in range(first, last + 1)]
    return [code for code in members if not 0xD800 <= code < 0xE000]


def random_texts(n: int, seed: int) -> Iterator[str]:
    """Weighted towards what some normaliser changes, or what only newer versions of Unicode do."""
    generator = random.Random(seed)
    every = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    young_marks = classes.intersection(classes.ranges("M"), properties.ranges("Unassigned_9"))
    pools = [
        every,
        [code for code in every if unicodedata.combining(chr(code))],
        [code for code in every if unicodedata.decomposition(chr(code))],
        _codes(young_marks),
        _codes(properties.ranges("Mark_9"), properties.ranges("Nonspacing_Mark_8")),
        _codes(properties.ranges("Control_8"))[:300],
        _codes(classes.ranges("Lu"), classes.ranges("Lt")),
        list(map(ord, "  \t\n\r\0\x1c\x85\xa0\u2028\u3000\u200b\u2581\ufeff\ufffd\x8f\x9f")),
        list(range(32, 127)),
        list(map(ord, " ``aé\u0301\u0323\u0316İΣẞ")),
        [
            *range(0x4DB0, 0x4E10),
            0x9FFF,
            0xA000,
            0xF8FF,
            0xF900,
            0x2A6DF,
            0x2B81F,
            0x2B820,
            0x2F800,
        ],
        [*range(0x1100, 0x1200), *range(0xAC00, 0xAC40)],
    ]
    for _ in range(n):
        chosen = generator.sample(pools, generator.randint(1, 5))
        length = generator.randint(0, 14)
        yield "".join(chr(generator.choice(generator.choice(chosen))) for _ in range(length))


def by_character(normalizer: Any) -> HuggingFaceTokenizer:
    """Hugging Face's tokenizer whose tokens are characters: their offsets are the alignment."""
    tokenizer = HuggingFaceTokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = huggingface_pre_tokenizers.Split(Regex("[^a]|a"), "isolated")
    return tokenizer


@pytest.mark.parametrize("name", PAIRS)
def test_random_texts_as_huggingface(name: str) -> None:
    ours, theirs = PAIRS[name]
    for text in random_texts(2500, 21):
        assert ours(text) == theirs.normalize_str(text), ascii(text)


@pytest.mark.parametrize(
    "name", ["StripAccents", "Nmt", "Bert", "Bert cased", "Bert accents", "Replace class"]
)
def test_every_character_as_huggingface(name: str) -> None:
    ours, theirs = PAIRS[name]
    tried = [*range(0xD800), *range(0xE000, 0x33480), *range(0xE0000, 0xE0200), 0xF0000, 0x10FFFF]
    text = "".join(f"a{chr(code)}" for code in tried)
    assert ours(text) == theirs.normalize_str(text)


@pytest.mark.parametrize("name", PAIRS)
def test_alignment(name: str) -> None:
    """Each character stands for the characters that Hugging Face's library gives, or for more.

    Theirs names only the first of several characters that were joined to one (or the last that a
    pattern replaced), and gives a place to characters that stand for nothing.
    """
    ours, theirs = PAIRS[name]
    oracle = by_character(theirs)
    for text in random_texts(600, 22):
        normalized, alignment = ours.align(text)
        assert normalized == ours(text)
        assert len(alignment) == len(normalized)
        assert [start for start, _ in alignment] == sorted(start for start, _ in alignment)
        assert [end for _, end in alignment] == sorted(end for _, end in alignment)
        offsets = oracle.encode(text).offsets
        if len(offsets) != len(alignment):
            continue  # theirs has dropped a token with an empty span
        for (start, end), (first, last) in zip(alignment, offsets, strict=True):
            assert 0 <= start <= end <= len(text)
            assert start == end or (start <= first and last <= end), ascii(text)
            assert end - start != 1 or (start, end) == (first, last), ascii(text)


@pytest.mark.parametrize("name", PAIRS)
def test_json_as_huggingface_writes_it(name: str) -> None:
    ours, theirs = PAIRS[name]
    written = json.loads(by_character(theirs).to_str())["normalizer"]
    assert ours.to_json() == written
    assert normalizers.from_json(written) == ours


def test_a_precompiled_map_as_huggingface(t5_map: bytes) -> None:
    ours = Sequence([Precompiled(t5_map), Strip(False, True), Replace(" {2,}", "▁", True)])
    theirs = huggingface.Sequence(
        [
            huggingface.Precompiled(t5_map),
            huggingface.Strip(False, True),
            huggingface.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    written = json.loads(by_character(theirs).to_str())["normalizer"]
    assert ours.to_json() == written
    assert normalizers.from_json(written) == ours
    for text in random_texts(2500, 23):
        assert ours(text) == theirs.normalize_str(text), ascii(text)
        normalized, alignment = ours.align(text)
        assert normalized == ours(text)
        assert len(alignment) == len(normalized)


@pytest.mark.parametrize(
    ("normalizer", "text", "expected", "alignment"),
    [
        (StripAccents(), "e\u0301x", "ex", [(0, 1), (2, 3)]),
        (Strip(), " \u3000a b\n", "a b", [(2, 3), (3, 4), (4, 5)]),
        (Strip(), " \n ", "", []),
        (Strip(), "\x1ca", "\x1ca", [(0, 1), (1, 2)]),  # no white space, whatever Python thinks
        (Prepend("▁"), "ab", "▁ab", [(0, 0), (0, 1), (1, 2)]),
        (Prepend("▁"), "", "", []),
        (Replace("aa", "b"), "aaaac", "bbc", [(0, 2), (2, 4), (4, 5)]),
        (Replace("a", ".a."), "a", ".a.", [(0, 1)] * 3),
        (Replace(" +", "_", True), "a  b ", "a_b_", [(0, 1), (1, 3), (3, 4), (4, 5)]),
        (Nmt(), "a\x01\tb\u200b", "a b ", [(0, 1), (2, 3), (3, 4), (4, 5)]),
        (BertNormalizer(), "Ä\x00中", "a 中 ", [(0, 1), (2, 2), (2, 3), (3, 3)]),
        (BertNormalizer(lowercase=False), "Ä\n", "Ä ", [(0, 1), (1, 2)]),
        (Sequence([Prepend("▁"), Replace(" ", "▁")]), " a", "▁▁a", [(0, 0), (0, 1), (1, 2)]),
        (Sequence([NFD(), StripAccents(), NFC()]), "éa", "ea", [(0, 1), (1, 2)]),
        (Sequence([Strip(), Prepend(">")]), "  a", ">a", [(2, 2), (2, 3)]),
    ],
)
def test_worked_examples(
    normalizer: Normalizer, text: str, expected: str, alignment: list[tuple[int, int]]
) -> None:
    assert normalizer(text) == expected
    assert normalizer.align(text) == (expected, alignment)


@given(st.text())
def test_without_change_every_character_stands_for_itself(text: str) -> None:
    assert Sequence([]).align(text) == (text, [(i, i + 1) for i in range(len(text))])


@example([NFD(), Replace("", "-", is_regex=False)], "À")
@given(st.lists(st.sampled_from([pair[0] for pair in PAIRS.values()]), max_size=4), st.text())
def test_alignment_of_any_sequence(steps: list[Normalizer], text: str) -> None:
    sequence = Sequence(steps)
    normalized, alignment = sequence.align(text)
    assert normalized == sequence(text)
    assert len(alignment) == len(normalized)
    assert all(0 <= start <= end <= len(text) for start, end in alignment)
    assert [end for _, end in alignment] == sorted(end for _, end in alignment)
    assert normalizers.from_json(sequence.to_json()) == sequence


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (None, "normalizer is null, not an object"),
        ({}, "normalizer.type is missing"),
        ({"type": "ByteLevel"}, "asks for normalizer = ByteLevel"),
        ({"type": "NFX"}, "asks for normalizer = NFX"),
        ({"type": "NFC", "left": True}, r"asks for normalizer.left = true"),
        ({"type": "Strip", "strip_left": True}, "normalizer.strip_right is missing"),
        ({"type": "Prepend", "prepend": 3}, "normalizer.prepend is 3, not a string"),
        ({"type": "Replace", "pattern": " ", "content": ""}, 'normalizer.pattern is " "'),
        ({"type": "Replace", "pattern": {}, "content": ""}, "must hold one of String, Regex"),
        ({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}, "no regular expression"),
        (
            {"type": "Replace", "pattern": {"String": "a"}, "content": "\ud800"},
            "not text that UTF-8 can hold",
        ),
        (
            {"type": "Prepend", "prepend": "\ud800"},
            "normalizer.prepend is .* not text that UTF-8 can hold",
        ),
        ({"type": "BertNormalizer", "clean_text": True}, "handle_chinese_chars is missing"),
        ({"type": "Precompiled", "precompiled_charsmap": "?"}, "is not base64"),
        ({"type": "Precompiled", "precompiled_charsmap": ""}, "the character map is empty"),
        ({"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "the character map is damaged"),
        ({"type": "Sequence", "normalizers": 1}, "normalizers is 1, not a list"),
        ({"type": "Sequence", "normalizers": [{"type": "X"}]}, r"normalizers\[0\] = X"),
    ],
)
def test_what_cannot_be_read(values: Any, what: str) -> None:
    with pytest.raises(TokenizerError, match=what):
        normalizers.from_json(values)


def test_a_bert_normalizer_need_not_name_accents() -> None:
    values = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    assert normalizers.from_json(values | {"lowercase": True}) == BertNormalizer()


def test_a_long_run_is_soon_done() -> None:
    for run in (" ", "\u0301", "a\u0301", "é", "中", "\n"):
        text = run * 20_000
        for normalizer in (
            BertNormalizer(),
            NFC(),
            NFKD(),
            Strip(),
            Nmt(),
            Replace(" +", "", True),
        ):
            assert normalizer.align(text)[0] == normalizer(text)


@pytest.fixture(scope="module")
def steps(t5_map: bytes, charsmap_of: Callable[[dict[str, str]], bytes]) -> list[Normalizer]:
    """Those above and more, among them maps that leave out what a cluster has besides."""
    by_cluster = charsmap_of({"\u0600": "z", "\r": "y", "a": " ", " \u0301": "w"})
    own = [Precompiled(t5_map), Precompiled(by_cluster), Replace(" {2,}", "▁", True)]
    return [*(ours for ours, _ in PAIRS.values()), *own, Replace("  ", "b"), Replace("b", "")]


def test_a_text_may_be_cut_at_an_edge(steps: list[Normalizer]) -> None:
    """Both sides are changed one by one, and have at the edge what it said they have."""
    generator = random.Random(4)
    found: Counter[Normalizer] = Counter()
    for _ in range(30_000):
        chosen = generator.choices(steps, k=generator.choice([1, 1, 2, 3]))
        normalizer = chosen[0] if len(chosen) == 1 else Sequence(chosen)
        letters = generator.choice(["a b", "ab `\n\r", " aé\u0301\u0600\n日", "ΑΣ B\t\x01\u200b▁"])
        text = "".join(generator.choices(letters, k=generator.randint(2, 9)))
        i, size = generator.randint(1, len(text) - 1), generator.randint(1, 8)
        sides = normalizer.edge(text[max(i - size, 0) : i], text[i : i + size])
        if sides is None:
            continue
        found[chosen[0]] += 1
        before, after = normalizer(text[:i]), normalizer.after(text[i - 1], text[i:])
        assert before + after == normalizer(text), (normalizer, text, i)
        assert before.endswith(sides[0]), (normalizer, text, i, sides)
        assert after.startswith(sides[1]), (normalizer, text, i, sides)
    assert len(found) > 15, found
