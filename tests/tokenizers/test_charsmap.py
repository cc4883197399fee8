"""SentencePiece's character map, read as SentencePiece and as Hugging Face's library read it."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from stemma.errors import TokenizerError
from stemma.tokenizers.steps.alignment import apply_edits
from stemma.tokenizers.steps.charsmap import CharsMap
from stemma.tokenizers.unicode.properties import ranges
from tokenizers import normalizers as huggingface

RandomTexts = Callable[[int, int], Iterator[str]]


def build_map(rules: dict[str, str]) -> bytes:
    """A map with these rules: a double array, filled node by node from the left."""
    tree: dict[int, Any] = {}
    for source in rules:
        node = tree
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node[0] = source
    strings = b"".join(new.encode() + b"\0" for new in rules.values())
    places, at = {}, 0
    for source, new in rules.items():
        places[source] = at
        at += len(new.encode()) + 1
    units: dict[int, int] = {0: 0}
    # Gaps get a label that leads to them from no node: no node's children stand at these bases.
    bases = set(range(0, 1 << 16, 256))

    def place(node: dict[int, Any], position: int) -> None:
        base = next(
            b
            for b in range(1 << 16)
            if b not in bases and not any((b ^ label) in units for label in node)
        )
        bases.add(base)
        units[position] |= (base ^ position) << 10 | (0x100 if 0 in node else 0)
        for label in node:
            units[base ^ label] = 0x80000000 | places[node[0]] if label == 0 else label
        for label, child in node.items():
            if label:
                place(child, base ^ label)

    place(tree, 0)
    size = -(-(max(units) + 1) // 256) * 256
    array = [units.get(i, i & 0xFF) for i in range(size)]
    trie = b"".join(unit.to_bytes(4, "little") for unit in array)
    return len(trie).to_bytes(4, "little") + trie + strings


def replaced_longest_first(text: str, rules: dict[str, str]) -> str:
    """What SentencePiece does, by trying every prefix."""
    result, at = "", 0
    while at < len(text):
        lengths = [n for n in range(len(text), 0, -1) if text[at : at + n] in rules]
        n = lengths[0] if lengths else 1
        result += rules.get(text[at : at + n], text[at])
        at += len(text[at : at + n])
    return result


RULES = {
    "a": "x",
    "ab": "yz",
    "abd": "",
    "é": "e",
    "e\u0301": "E",
    "\r": " ",
    "가": "ga",
    "😀": ":)",
}


@pytest.fixture(scope="module")
def t5_map(mirror: Callable[[str], Path]) -> bytes:
    document = json.loads(mirror("tokenizers/t5/flan-t5-tokenizer.json").read_bytes())
    return base64.b64decode(document["normalizer"]["normalizers"][0]["precompiled_charsmap"])


@pytest.fixture(scope="module")
def plain_sentencepiece(mirror: Callable[[str], Path]) -> sentencepiece.SentencePieceNormalizer:
    """T5's normaliser with nothing but its map: no space before, none removed, none escaped."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(mirror("tokenizers/t5/sentencepiece.model").read_bytes())
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = False
    return sentencepiece.SentencePieceNormalizer(model_proto=model.SerializeToString())


def mapped_texts(n: int, seed: int, text_of: RandomTexts) -> Iterator[str]:
    """Random texts with many characters that the map changes, jamo, and marks."""
    generator = random.Random(seed)
    pools = [
        range(1, 0x250), range(0x300, 0x370), range(0x1E00, 0x2200), range(0x3040, 0x3400),
        range(0x1100, 0x1200), range(0xAC00, 0xAC80), range(0xF900, 0x10000),
        range(0x1D400, 0x1D500), [13, 10, 0x200D, 0x0BC6, 0x0BBE, 0x1F600],
    ]  # fmt: skip
    for text in text_of(n, seed):
        chosen = generator.sample(pools, generator.randint(1, 3))
        codes = [
            generator.choice(generator.choice(chosen)) for _ in range(generator.randint(0, 12))
        ]
        yield text[: generator.randint(0, 8)] + "".join(map(chr, codes))


def test_the_longest_string_of_the_map_is_replaced() -> None:
    rules = CharsMap(build_map(RULES))
    assert rules.normalize("abc a abd é e\u0301 \r\n 가나 😀") == "yzc x  e E  \n ga나 :)"
    assert rules.longest("xabd", 1) == (4, "")
    assert rules.longest("xabd", 0) is None


def test_each_new_character_stands_for_the_string_it_replaced() -> None:
    rules = CharsMap(build_map(RULES))
    assert rules.align("-ab가abd!") == ("-yzga!", [(0, 1), (1, 3), (1, 3), (3, 4), (3, 4), (7, 8)])


def test_by_cluster_the_shortest_beginning_replaces_all_of_a_short_cluster() -> None:
    rules = CharsMap(build_map(RULES | {"e": "i"}))
    by_cluster = rules.edits_by_cluster("e\u0301")
    assert list(by_cluster) == [(0, 2, "i")]  # "e" is found first, and its accent goes with it
    long = "e" + "\u0301" * 3  # 7 bytes: one character after another
    assert list(rules.edits_by_cluster(long)) == [(0, 1, "i")]
    assert list(rules.edits_by_cluster("ab\r\n")) == [(0, 1, "x"), (2, 4, " ")]


def test_a_far_offset_is_written_in_units_of_256() -> None:
    units = [0] * 1024
    units[0] = 2 << 10 | 0x200  # 512 from here
    units[512 ^ ord("a")] = ord("a") | 0x100 | 1 << 10 | 0x200  # a string ends; 256 from here
    units[512 ^ ord("a") ^ 256] = 0x80000000
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    data = len(trie).to_bytes(4, "little") + trie + b"x\0"
    assert CharsMap(data).normalize("banana") == "bxnxnx"
    assert huggingface.Precompiled(data).normalize_str("banana") == "bxnxnx"


def test_an_empty_map_changes_nothing() -> None:
    assert CharsMap(b"").normalize("aé") == "aé"
    assert list(CharsMap(b"").edits_by_cluster("aé")) == []


@given(
    st.dictionaries(
        st.text("abcé가😀\u0301", min_size=1, max_size=4),
        st.text(max_size=3),
        min_size=1,
        max_size=12,
    ),
    st.text("abcdé가😀\u0301 ", max_size=12),
)
def test_any_map_is_applied_longest_first(rules: dict[str, str], text: str) -> None:
    rules = {source: new.replace("\0", "") for source, new in rules.items()}
    found = CharsMap(build_map(rules))
    normalized, alignment = found.align(text)
    assert normalized == found.normalize(text) == replaced_longest_first(text, rules)
    assert len(alignment) == len(normalized)


@given(
    st.dictionaries(
        st.text("abcé가😀\u0301", min_size=1, max_size=4),
        st.text(max_size=3),
        min_size=1,
        max_size=12,
    ),
    st.text("abcdé가😀\u0301\u200d\r\n🇮", max_size=12),
)
def test_any_map_is_applied_by_cluster_as_huggingface_does(
    rules: dict[str, str], text: str
) -> None:
    rules = {source: new.replace("\0", "") for source, new in rules.items()}
    data = build_map(rules)
    expected = huggingface.Precompiled(data).normalize_str(text)
    assert apply_edits(text, CharsMap(data).edits_by_cluster(text)) == expected


def test_t5_as_sentencepiece(
    t5_map: bytes,
    plain_sentencepiece: sentencepiece.SentencePieceNormalizer,
    random_texts: RandomTexts,
) -> None:
    rules = CharsMap(t5_map)
    for text in mapped_texts(4000, 3, random_texts):
        assert rules.normalize(text) == plain_sentencepiece.normalize(text), ascii(text)


def test_t5_as_huggingface(t5_map: bytes, random_texts: RandomTexts) -> None:
    rules, oracle = CharsMap(t5_map), huggingface.Precompiled(t5_map)
    for text in mapped_texts(4000, 4, random_texts):
        assert apply_edits(text, rules.edits_by_cluster(text)) == oracle.normalize_str(text), ascii(
            text
        )


def test_every_character_by_itself(t5_map: bytes) -> None:
    rules, oracle = CharsMap(t5_map), huggingface.Precompiled(t5_map)
    every = [chr(code) for code in range(1, 0x33480) if not 0xD800 <= code < 0xE000]
    text = "~".join([*every, "\U000e0101", "\U000f0000", "\U0010ffff"])
    assert apply_edits(text, rules.edits_by_cluster(text)) == oracle.normalize_str(text)


def test_a_long_run_stays_fast(t5_map: bytes) -> None:
    rules = CharsMap(t5_map)
    for run in ("a", " ", "\u0301", "가", "ᄀ", "é"):
        text = run * 100_000
        assert len(rules.normalize(text)) == len(apply_edits(text, rules.edits_by_cluster(text)))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x00", "its trie is said to have 0 bytes"),
        (b"\x00\x00\x00\x00", "its trie is said to have 0 bytes"),
        (
            b"\x08\x00\x00\x00\x00\x00\x00\x00",
            "its trie is said to have 8 bytes, but it has 8 in all",
        ),
        (b"\x03\x00\x00\x00abc", "its trie is said to have 3 bytes"),
    ],
)
def test_what_is_no_map(data: bytes, what: str) -> None:
    with pytest.raises(TokenizerError, match=what):
        CharsMap(data)


def test_every_truncated_map_is_refused_or_works(t5_map: bytes) -> None:
    data = build_map(RULES)
    for length in range(1, len(data)):
        with pytest.raises(TokenizerError, match="damaged"):
            CharsMap(data[:length])
    with pytest.raises(TokenizerError, match="damaged"):
        CharsMap(t5_map[:-1])


@given(st.integers(0, 10_000), st.integers(0, 255), st.text("abdé가😀e\u0301\r\x05", max_size=20))
def test_a_changed_byte_is_refused_or_does_no_harm(place: int, byte: int, text: str) -> None:
    data = bytearray(build_map(RULES))
    data[place % len(data)] = byte
    try:
        rules = CharsMap(bytes(data))
    except TokenizerError:
        return
    rules.normalize(text)
    list(rules.edits_by_cluster(text))


def test_the_damage_is_named() -> None:
    data = build_map({"a": "é"})
    with pytest.raises(TokenizerError, match="not UTF-8"):
        CharsMap(data[:-2] + b"\xff\0")
    with pytest.raises(TokenizerError, match="beyond its end"):
        CharsMap(data[:-1])
    unit = 5 << 10 | 0x100  # a string ends here, and its replacement is named by unit 5
    with pytest.raises(TokenizerError, match="unit 5 is named, but there are 1"):
        CharsMap(b"\4\0\0\0" + unit.to_bytes(4, "little") + b"x\0")
    inside = data[:4] + data[4:].replace(b"\0\0\0\x80", b"\1\0\0\x80", 1)
    with pytest.raises(TokenizerError, match="begins inside a character"):
        CharsMap(inside)


def test_marks_of_the_map_are_clusters_of_their_own() -> None:
    mark = chr(ranges("Extend")[0][0])
    rules = CharsMap(build_map({mark: "!"}))
    assert list(rules.edits_by_cluster("a" + mark)) == [(1, 2, "!")]
