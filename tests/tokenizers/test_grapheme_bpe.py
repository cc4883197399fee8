"""BPE on grapheme clusters, compared with one that counts all pairs again after each merge."""

from __future__ import annotations

import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER
from stemma.tokenizers.bpe.byte_level import ByteLevelBPE
from stemma.tokenizers.bpe.grapheme_words import whole_words
from stemma.tokenizers.bpe.graphemes import WORDS, GraphemeBPE
from stemma.tokenizers.bpe.train import count_words, learn_merges
from stemma.tokenizers.scan.words import splitter
from stemma.tokenizers.steps.normalizers import NFC, Lowercase, Sequence
from stemma.tokenizers.steps.template import surround
from stemma.tokenizers.unicode.graphemes import clusters
from tokenizers import Tokenizer as HuggingFaceTokenizer

SCRIPTS = {"Tamil": "tam", "Hindi": "hin", "Thai": "tha", "Khmer": "khm", "Malayalam": "mal"}
SINHALA = "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ගරුත්වයෙන් හා අයිතිවාසිකම්වලින් සමාන වෙති. ශ්‍රී ලංකාව"
BYTE_IDS = {value: id_ for id_, value in enumerate(BYTE_ORDER)}
BANANA = "கொடுகொடு கொடு நிகொ banana 👍🏽👍🏽 ක්‍ෂ"


@pytest.fixture(scope="module")
def declaration(mirror: Callable[[str], Path]) -> Callable[[str], str]:
    """The Universal Declaration of Human Rights in a language."""

    def read(code: str) -> str:
        with zipfile.ZipFile(mirror("text/udhr2.zip")) as archive:
            return archive.read(f"udhr2/{code}.txt").decode()

    return read


def small() -> GraphemeBPE:
    return GraphemeBPE.train([BANANA], 270, min_frequency=1, coverage=1, allow_fewer=True)


def learn_by_counting_anew(
    text: str, vocab_size: int, min_frequency: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Graphemes and merges, as strings, by the rule and nothing else."""
    edges = {0, *accumulate(map(len, regex.findall(r"\X", text)))}
    words: list[list[str]] = []
    at = 0
    for word in regex.findall(WORDS, text):
        found = regex.findall(r"\X", word)
        if at in edges:
            words.append(found)
        else:
            words[-1] = regex.findall(r"\X", "".join(words[-1]) + word)
        at += len(word)
    counts = Counter(unit for word in words for unit in word if len(unit.encode()) > 1)
    chosen = Counter({unit: n for unit, n in counts.items() if n >= min_frequency})
    rest = Counter({unit: n for unit, n in counts.items() if n < min_frequency and len(unit) > 1})
    for character in {c for unit in rest for c in unit if not c.isascii()} - chosen.keys():
        n = sum(rest[unit] * unit.count(character) for unit in rest)
        chosen |= Counter({character: n} if n >= min_frequency else {})
    ranked = sorted(chosen, key=lambda unit: (-chosen[unit], unit))
    graphemes = ranked[: vocab_size - 256]
    order = {chr(value): id_ for value, id_ in BYTE_IDS.items() if value < 128}
    order |= {grapheme: 256 + i for i, grapheme in enumerate(graphemes)}
    merges: list[tuple[str, str]] = []
    while len(order) < vocab_size - 128:
        pairs = Counter(p for word in words for p in pairwise(word) if set(p) <= order.keys())
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], order[p[0]], order[p[1]]))
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        order.setdefault("".join(best), len(order) + 128)
        words = [_merged(word, best) for word in words]
    return graphemes, merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    i = 0
    while i < len(word):
        found = tuple(word[i : i + 2]) == pair
        merged.append("".join(word[i : i + 2]) if found else word[i])
        i += 2 if found else 1
    return merged


def test_a_worked_example() -> None:
    tokenizer = GraphemeBPE.train(["நிகொ நிகொ நி"], 260, special_tokens=["<e>"], allow_fewer=True)
    # நி occurs three times, கொ twice; then " நி" twice, and நிகொ twice: the smaller ids come first.
    assert tokenizer.graphemes == ("நி", "கொ")
    space = BYTE_IDS[ord(" ")]
    assert tokenizer.merges[0] == (space, 256)
    assert tokenizer.special_tokens == {"<e>": 259}
    assert tokenizer.encode("நி கொ நி").tolist() == [256, space, 257, 258]
    assert tokenizer.encode("கோ").tolist() == [BYTE_IDS[byte] for byte in "கோ".encode()]


def test_merges_are_those_of_the_rule() -> None:
    generator = random.Random(3)
    letters = ["க", "கி", "e\u0301", "é", "a", "b", " ", "👍🏽", "\r\n", "1", "!", "नि", "क्ष"]
    for _ in range(60):
        chosen = generator.sample(letters, generator.randint(2, 6))
        text = "".join(generator.choice(chosen) for _ in range(generator.randint(1, 60)))
        size, least = generator.randint(256, 280), generator.randint(1, 3)
        tokenizer = GraphemeBPE.train(
            [text], size, special_tokens=(), coverage=1, min_frequency=least, allow_fewer=True
        )
        graphemes, merges = learn_by_counting_anew(text, size, least)
        assert list(tokenizer.graphemes) == graphemes
        spelled = [
            tuple(tokenizer.token_bytes(id_).decode() for id_ in pair) for pair in tokenizer.merges
        ]
        assert spelled == merges, text


@given(st.text() | st.text(BANANA + "\u0301\u200dé\n🇮🇳"))
def test_every_text_comes_back(text: str) -> None:
    tokenizer = small()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    ids, spans = tokenizer.encode_with_offsets(text)
    data = text.encode()
    assert ids.tolist() == tokenizer.encode(text).tolist()
    assert [data[start:end] for start, end in spans] == [tokenizer.token_bytes(i) for i in ids]


def test_random_texts_come_back(random_texts: Callable[[int, int], Iterator[str]]) -> None:
    tokenizer = GraphemeBPE.train(random_texts(200, 1), 1500, allow_fewer=True)
    for text in random_texts(2000, 2):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text() | st.text("க ி்क्षa\u0301\u200d🇮🇳👍🏽\r\n1"))
def test_no_word_ends_inside_a_cluster(text: str) -> None:
    for pattern in ("gpt2", (WORDS,)):
        words = whole_words(text, splitter(pattern))
        assert "".join(words) == text
        assert [c for word in words for c in clusters(word)] == clusters(text)


def assert_known_clusters_whole(tokenizer: GraphemeBPE, text: str) -> None:
    """No token begins or ends inside a cluster that has an id."""
    known = {*tokenizer.graphemes, *map(chr, range(128))}
    edges = {0, *accumulate(len(tokenizer.token_bytes(i)) for i in tokenizer.encode(text))}
    at = 0
    for cluster in clusters(text):
        end = at + len(cluster.encode())
        if cluster in known:
            assert not edges & set(range(at + 1, end)), cluster
        at = end


@given(st.text(BANANA + "\u0301\u200dé\n🇮🇳"))
def test_known_clusters_are_not_cut(text: str) -> None:
    assert_known_clusters_whole(small(), text)


@pytest.mark.parametrize("code", SCRIPTS.values(), ids=SCRIPTS)
def test_fewer_tokens_than_byte_level_bpe(declaration: Callable[[str], str], code: str) -> None:
    text = declaration(code)
    tokenizer = GraphemeBPE.train([text], 900, allow_fewer=True)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert_known_clusters_whole(tokenizer, text)
    assert_known_clusters_whole(tokenizer, text[::-1])
    same_size = ByteLevelBPE.train([text], tokenizer.vocab_size, allow_fewer=True)
    assert ids.size < 0.75 * same_size.encode(text).size
    # Most of this is gained by the cut into words: bytes need about as many with the same words.
    alphabet = [bytes([value]) for value in BYTE_ORDER]
    words = count_words([text], [], (WORDS,))
    learned, merges = learn_merges(words, alphabet, tokenizer.vocab_size - 257, min_frequency=2)
    same_words = ByteLevelBPE(alphabet + learned, merges, pattern=(WORDS,))
    assert ids.size < 1.1 * same_words.encode(text).size


def test_sinhala_is_not_cut_inside_a_letter() -> None:
    tokenizer = GraphemeBPE.train([SINHALA] * 2, 330, allow_fewer=True)
    assert tokenizer.decode(tokenizer.encode(SINHALA)) == SINHALA
    assert_known_clusters_whole(tokenizer, SINHALA)
    byte_level = ByteLevelBPE.train([SINHALA] * 2, tokenizer.vocab_size, allow_fewer=True)
    assert tokenizer.encode(SINHALA).size < byte_level.encode(SINHALA).size


def test_an_unknown_cluster_is_spelled_by_its_characters_and_bytes() -> None:
    tokenizer = GraphemeBPE(["é", "👍"], [(BYTE_IDS[ord("h")], BYTE_IDS[ord("e")])])
    assert tokenizer.encode("👍🏽").tolist() == [257, *(BYTE_IDS[b] for b in "🏽".encode())]
    # No merge reaches into it: the e of é is not merged with the h before it.
    assert tokenizer.encode("he\u0301").tolist() == [
        BYTE_IDS[b] for b in [ord("h"), ord("e"), *"\u0301".encode()]
    ]
    assert tokenizer.encode("heé").tolist() == [258, 256]


def test_two_merges_may_make_one_token() -> None:
    a, b = BYTE_IDS[ord("a")], BYTE_IDS[ord("b")]
    tokenizer = GraphemeBPE(["é"], [(a, b), (b, a), (257, a), (a, 258)], ["<e>"])
    assert tokenizer.special_tokens == {"<e>": 260}  # ab, ba, aba; and aba once more
    assert tokenizer.encode("aba").tolist() == [259]
    assert tokenizer.encode("baab").tolist() == [258, 257]
    read = GraphemeBPE.from_json(tokenizer.to_json())
    assert (read.merges, read.vocab_size) == (tokenizer.merges, 261)


def test_coverage_and_rarity_decide_which_graphemes_get_ids() -> None:
    text = "é" * 90 + "ü" * 9 + "ä"
    learned = [
        GraphemeBPE.train([text], 260, coverage=c, min_frequency=m, allow_fewer=True).graphemes
        for c, m in ((0.9, 1), (0.95, 1), (1, 1), (1, 2), (0, 1))
    ]
    assert learned == [("é",), ("é", "ü"), ("é", "ü", "ä"), ("é", "ü"), ()]


def test_special_tokens_are_not_learned_from_and_not_produced_from_text() -> None:
    tokenizer = GraphemeBPE.train(["é<|endoftext|>é"] * 3, 280, allow_fewer=True)
    end = tokenizer.end_of_text
    assert end == tokenizer.vocab_size - 1
    assert end not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.encode("<|endoftext|>", allowed_special="all").tolist() == [end]
    assert all(b"|" not in tokenizer.token_bytes(id_) for id_ in range(256, end))


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    GraphemeBPE.train([BANANA], 268, min_frequency=1, progress=lambda *a: told.append(a))
    assert told[-1] == (11, 11)


def test_a_file_gives_the_tokenizer_back(declaration: Callable[[str], str]) -> None:
    text = declaration("tam")
    trained = GraphemeBPE.train([text], 700, normalizer=Sequence([NFC(), Lowercase()]))
    tokenizer = GraphemeBPE(
        trained.graphemes, trained.merges, ["<s>", "<e>"],
        pattern="o200k", normalizer=trained.normalizer,
        template=surround({"<s>": trained.vocab_size - 1}, {"<e>": trained.vocab_size}),
    )  # fmt: skip
    for one in (trained, tokenizer):
        read = GraphemeBPE.from_json(json.loads(json.dumps(one.to_json())))
        assert read.fingerprint == one.fingerprint
        assert read.pattern == one.pattern
        assert read.special_tokens == one.special_tokens
        for start in range(0, 2000, 100):
            part = text[start : start + 100] + "É"
            ids = one.encode(part, add_special_tokens=True)
            assert read.encode(part, add_special_tokens=True).tolist() == ids.tolist()


def test_other_libraries_refuse_the_file() -> None:
    with pytest.raises(Exception, match="did not match any variant"):
        HuggingFaceTokenizer.from_str(json.dumps(small().to_json()))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((["a"], []), "no grapheme cluster longer than a byte"),
        ((["éé"], []), "no grapheme cluster longer than a byte"),
        (([""], []), "no grapheme cluster longer than a byte"),
        ((["\ud800"], []), "lone surrogate"),
        ((["é", "é"], []), "a grapheme is listed twice"),
        ((["é"], [(256, 256), (256, 256)]), "a merge is listed twice"),
        ((["é"], [(256, 257)]), "names one that is no text"),
        ((["é"], [(256, -1)]), "names one that is no text"),
        ((["é"], [(256, BYTE_IDS[0xC3])]), "names one that is no text"),
        ((["é"], [], ["<e>", "<e>"]), "share one name"),
    ],
)
def test_what_makes_no_tokenizer(arguments: Any, what: str) -> None:
    with pytest.raises(TokenizerError, match=what):
        GraphemeBPE(*arguments)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": None}, "model is null, not an object"),
        ({"model": {"type": "BPE"}}, "model.type"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "pre_tokenizer.type"),
        ({"truncation": {"max_length": 3}}, "truncation"),
        ({"decoder": {"type": "ByteLevel"}}, "decoder"),
        ({"normalizer": {"type": "X"}}, "normalizer = X"),
        ({"added_tokens": [{"id": 3, "content": "<e>"}]}, r"added_tokens\[0\].id is not"),
        ({"added_tokens": [{"id": 3, "content": "<e>", "special": False}]}, "does not have"),
        ({"added_tokens": 3}, "not a list"),
        (
            {"model": {"type": "GraphemeBPE", "graphemes": [1], "merges": []}},
            r"model.graphemes\[0\] is 1",
        ),
        (
            {"model": {"type": "GraphemeBPE", "graphemes": [], "merges": [["a", "é"]]}},
            r"model.merges\[0\] is .* not two tokens that come before it",
        ),
        (
            {"model": {"type": "GraphemeBPE", "graphemes": [], "merges": ["a b"]}},
            "not two tokens",
        ),
        (
            {"model": {"type": "GraphemeBPE", "graphemes": [], "merges": [], "dropout": 0.1}},
            "model.dropout",
        ),
    ],
)
def test_what_cannot_be_read(change: dict[str, Any], what: str) -> None:
    with pytest.raises(TokenizerError, match=what):
        GraphemeBPE.from_json(small().to_json() | change)


def test_what_cannot_be_trained() -> None:
    with pytest.raises(TokenizerError, match="a vocabulary of 256 is too small"):
        GraphemeBPE.train(["a"], 256)
    with pytest.raises(TokenizerError, match="the text gives 3"):
        GraphemeBPE.train(["éü éü"], 300, min_frequency=2)
    with pytest.raises(TokenizerError, match="coverage=2"):
        GraphemeBPE.train(["a"], 300, coverage=2)
    with pytest.raises(TokenizerError, match="document 1"):
        GraphemeBPE.train(["a", "\ud800"], 300)
    with pytest.raises(TokenizerError, match="iterable of texts"):
        GraphemeBPE.train("a", 300)


def test_a_long_word_is_soon_done() -> None:
    tokenizer = small()
    for run in ("a", "கொ", "\u0301", "👍🏽", " "):
        text = run * 50_000
        assert tokenizer.decode(tokenizer.encode(text)) == text
