"""The kernel against the readable way and `tokenizers`: the same ids for every text."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.kernels.wordpiece import LONGEST_NEW
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.steps.normalizers import NFC, BertNormalizer
from stemma.tokenizers.steps.pre_tokenizers import WhitespaceSplit
from stemma.tokenizers.wordpiece.characters import BLOCK, characters_of
from stemma.tokenizers.wordpiece.compiled import CompiledWordPiece
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

RandomTexts = Callable[[int, int], Iterator[str]]

SETTINGS = [None, *itertools.starmap(BertNormalizer, itertools.product([True, False], repeat=4))]
UNNAMED = [BertNormalizer(), BertNormalizer(lowercase=False)]  # strip_accents as lowercase is

# Marks that the normaliser keeps although it decomposes, with different combining classes: they
# change places with one another, across what is removed, but not across what begins a letter.
KEPT_MARKS = ["\u302e", "\u302f", "\U0001d165", "\U0001d16d", "\U0001d160", "\U0001e94a", "\u1dfb"]
BETWEEN_MARKS = [
    "a",
    "\u0301",
    "\u0327",
    "\u05b0",
    "\u200d",
    "\x00",
    "\u0947",
    " ",
    "=",
    "\u2260",
    "漢",
]


@pytest.fixture(scope="module")
def bert(mirror: Callable[[str], Path]) -> WordPiece:
    return WordPiece.bert(mirror("tokenizers/bert/vocab.txt"))


def of_two_planes(texts: Iterable[str]) -> list[str]:
    """Without characters for which tables would have to be filled that hold nothing else."""
    return ["".join(c for c in text if c < "\U00020000") for text in texts]


def with_normalizer(tokens: Sequence[str], normalizer: BertNormalizer | None) -> WordPiece:
    return WordPiece(tokens, {"[UNK]": tokens.index("[UNK]")}, normalizer=normalizer)


def fast(tokenizer: WordPiece) -> CompiledWordPiece:
    assert tokenizer._compiled is not None
    return tokenizer._compiled


def assert_equal(tokenizer: WordPiece, texts: Sequence[str]) -> None:
    """Text by text, and all at once."""
    expected = [tokenizer._encode_readably(text) for text in texts]
    for text, ids in zip(texts, expected, strict=True):
        assert fast(tokenizer).encode(text.encode()).tolist() == ids, text
    found = fast(tokenizer).encode_texts([text.encode() for text in texts])
    assert [ids.tolist() for ids in found] == expected


@pytest.mark.parametrize("normalizer", [*SETTINGS, *UNNAMED], ids=str)
def test_every_setting_equals_the_readable_way(
    bert: WordPiece,
    normalizer: BertNormalizer | None,
    awkward: list[str],
    random_texts: RandomTexts,
) -> None:
    some = [*bert.tokens[:5000], *(token for token in bert.tokens if not token.isascii())]
    capitals = [token.upper() for token in some]
    accented = ["é", "##é", "i̇", "##̇", "İ", "\u302e", "##\u302f", "…", "##\u200d", "\ufffd", "\x00"]
    tokens = [*some, *capitals, *accented]
    tokenizer = with_normalizer(list(dict.fromkeys(tokens)), normalizer)
    assert_equal(tokenizer, [*awkward, *of_two_planes(random_texts(300, 21))])


@pytest.mark.parametrize("seed", range(40))
def test_random_vocabularies_equal_the_readable_way(seed: int) -> None:
    generator = random.Random(seed)
    alphabet = generator.choice(["ab", "abc#", "aé漢😀b", "abA\u0301 \u302e", "a\0b"])
    prefix = generator.choice(["##", "##", "#", "", "a", "é"])
    letters = [c for c in alphabet if c != " "]
    tokens = {"[UNK]": None, prefix or "x": None}
    for _ in range(generator.randint(1, 25)):
        piece = "".join(generator.choices(letters, k=generator.randint(1, 4)))
        tokens[(prefix if generator.random() < 0.6 else "") + piece] = None
    tokenizer = WordPiece(
        list(tokens),
        {"[UNK]": 0},
        continuing_prefix=prefix,
        max_characters=generator.choice([100, 0, 1, 5, 8]),
        normalizer=generator.choice(SETTINGS),
    )
    assert_equal(
        tokenizer,
        [
            "".join(generator.choices(alphabet + ", ", k=generator.randint(0, 30)))
            for _ in range(99)
        ],
    )


@pytest.mark.parametrize("normalizer", [BertNormalizer(), BertNormalizer(lowercase=False), None])
def test_marks_that_change_places(normalizer: BertNormalizer | None) -> None:
    every = [*KEPT_MARKS, *BETWEEN_MARKS, "\U0001d158", "\U0001d16e", "\u0338"]
    tokens = ["[UNK]", *every, *("##" + one for one in every)]
    tokenizer = with_normalizer(tokens, normalizer)
    generator = random.Random(5)
    pool = KEPT_MARKS * 2 + BETWEEN_MARKS
    texts = ["".join(generator.choices(pool, k=generator.randint(1, 9))) for _ in range(2000)]
    assert_equal(tokenizer, texts)
    if normalizer is not None and normalizer.lowercase:
        moved = sum(
            tokenizer._encode_readably(text)
            != [id_ for c in text for id_ in tokenizer._encode_readably(c)]
            for text in texts
        )
        assert moved > 500


@pytest.mark.parametrize("most", [0, 1, 3, 100, 1 << 30])
def test_words_about_the_longest_that_is_known(most: int) -> None:
    """Characters are counted after normalising: a Hangul syllable is two or three."""
    letters = ["a", "\u1112", "\u1161", "\u11ab", "\U0001d158", "\u302e"]
    tokens = ["[UNK]", *letters, *("##" + letter for letter in letters)]
    tokenizer = WordPiece(
        tokens, {"[UNK]": 0}, max_characters=most, normalizer=BertNormalizer(lowercase=True)
    )
    words = ["a", "한", "\U0001d15e", "é", "A", "\u0301", "하"]
    texts = [w * n for w in words for n in (1, 2, 3, 4, 33, 34, 99, 100, 101, 102, 5000)]
    assert_equal(tokenizer, texts)


def test_long_runs(bert: WordPiece) -> None:
    runs = ["a", " ", "\n", ".", "漢", "\u0301", "\x00", "é", "한", "\U0001d165", "a\u0301", "A "]
    assert_equal(bert, [run * (100_000 // len(run)) for run in runs])


def test_a_word_that_nothing_spells_is_the_same_error(bert: WordPiece) -> None:
    tokenizer = WordPiece(["a", "##b"], normalizer=BertNormalizer())
    assert fast(tokenizer).encode(b"abb A\nab").tolist() == [0, 1, 1, 0, 0, 1]
    with pytest.raises(TokenizerError, match=r"no tokens spell the word 'abc'.*has no \[UNK\]"):
        fast(tokenizer).encode(b"ab ABC")


def test_a_vocabulary_without_tokens() -> None:
    assert_equal(WordPiece(["[UNK]"], {"[UNK]": 0}), ["", "a b", "[UNK]"])


def test_a_vocabulary_that_is_too_large_is_read_in_the_readable_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stemma.tokenizers.kernels import double_array

    monkeypatch.setattr(double_array, "MOST_CELLS", 0)
    tokenizer = WordPiece(["[UNK]", "a", "##b"], {"[UNK]": 0})
    texts = ["ab a c " * 20_000, "abb"]
    rows = [tokenizer.encode(texts[0]), *tokenizer.encode_batch(texts)]
    assert tokenizer._compiled is None
    assert [row.tolist() for row in rows] == [[1, 2, 1, 0] * 20_000] * 2 + [[1, 2, 2]]


def test_encode_uses_the_kernel_where_it_knows_the_steps(
    bert: WordPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "worth", lambda n_bytes: True)
    text = "[CLS] Ünïcödé [MASK]ed text, [SEP]"
    known = bert.encode(text, allowed_special="all").tolist()
    for changed in ("normalizer", "pre_tokenizer"):
        other = WordPiece.bert(bert.tokens)
        setattr(other, changed, NFC() if changed == "normalizer" else WhitespaceSplit())
        other.encode_batch([text, text], allowed_special="all")
        assert "_compiled" not in vars(other)
    assert "_compiled" in vars(bert)
    monkeypatch.setattr(kernels, "worth", lambda n_bytes: False)
    assert bert.encode(text, allowed_special="all").tolist() == known


def test_added_tokens_are_found_first(
    bert: WordPiece, monkeypatch: pytest.MonkeyPatch, random_texts: RandomTexts
) -> None:
    """In the text as given and in the normalised one, where the kernel does not look."""
    texts = [f"{a}<Think>{a}[MASK]{a[:4]}<think> é" for a in random_texts(100, 22)]
    for normalized in (False, True):
        tokens = [*bert.tokens, "<think>"]
        added = [AddedToken(name, id_) for name, id_ in bert.special_tokens.items()]
        added += [
            AddedToken(
                "<think>", len(bert.tokens), special=False, normalized=normalized, lstrip=True
            )
        ]
        tokenizer = WordPiece(tokens, added, normalizer=BertNormalizer())
        results = []
        for worth in (False, True):
            monkeypatch.setattr(kernels, "worth", lambda n_bytes, worth=worth: worth)
            results.append(
                [
                    ids.tolist()
                    for allowed in ((), "all", ("[MASK]",))
                    for ids in tokenizer.encode_batch(texts, allowed_special=allowed)
                ]
            )
        assert results[0] == results[1]


def test_a_batch_on_threads_is_every_text_by_itself(
    bert: WordPiece, random_texts: RandomTexts
) -> None:
    """With new tables each time, which the threads fill at the same time."""
    texts = [*of_two_planes(random_texts(1500, 23)), "", "a" * 300_000, "", "b c " * 100_000, "x"]
    expected = [bert._encode_readably(text) for text in texts]
    for threads in (1, 2, 5):
        characters_of.cache_clear()
        fresh = WordPiece.bert(bert.tokens)
        found = fresh.encode_batch(texts, threads=threads)
        assert [ids.tolist() for ids in found] == expected
    characters_of.cache_clear()
    fresh = WordPiece.bert(bert.tokens)
    with ThreadPoolExecutor(8) as pool:
        rows = pool.map(lambda text: fast(fresh).encode(text.encode()), texts)
        assert [ids.tolist() for ids in rows] == expected


def test_half_a_character_is_refused_in_a_batch(bert: WordPiece) -> None:
    with pytest.raises(TokenizerError, match=r"text 1: .*lone surrogate"):
        bert.encode_batch(["a " * 100_000, "b\ud800"])
    for text in ("a " * 100_000 + "\ud800", "[SEP]\ud800" + "a " * 100_000):
        with pytest.raises(TokenizerError, match="lone surrogate"):
            bert.encode(text, allowed_special="all")


def every_character() -> Iterator[str]:
    return (chr(c) for c in (*range(0xD800), *range(0xE000, 0x110000)))


def test_a_sample_of_all_characters(bert: WordPiece) -> None:
    sample = random.Random(6).sample([*every_character()], 20_000)
    sample += list(map(chr, range(0x3400)))
    assert_equal(bert, ["".join(f"a{c}b {c} " for c in sample)])


@pytest.mark.parametrize("normalizer", SETTINGS, ids=str)
def test_no_character_becomes_more_characters_than_it_has_bytes(
    normalizer: BertNormalizer | None,
) -> None:
    """Upon this the sizes of the kernel's arrays rest."""
    characters = characters_of(normalizer)
    for first in (*range(0, 0x20000, BLOCK), 0x2F000, 0xE0000):
        for code, text in enumerate(characters._normalized(first), first):
            size = len(chr(code).encode(errors="surrogatepass"))
            assert len(text.strip()) <= size
            assert len(text.encode()) <= LONGEST_NEW


@pytest.mark.slow
@pytest.mark.parametrize("lowercase", [True, False])
def test_all_characters(bert: WordPiece, lowercase: bool) -> None:
    tokenizer = WordPiece.bert(bert.tokens, lowercase=lowercase)
    assert_equal(tokenizer, ["".join(f"a{c}b {c} " for c in every_character())])


words = st.sampled_from(["the", "un", "##s", "[SEP]", "don't", "İ", "ß", "ﬁ", "漢字", "≠", "ΣΑΣ"])
marks = st.sampled_from([" ", "\t", "-", "\u0301", "\u200d", "\xa0", "\ufffd", "\x00", "\u302e"])
parts = st.lists(st.one_of(words, marks, st.text(st.characters(exclude_categories=["Cs"]))))


@given(parts=parts)
def test_any_text_equals_the_readable_way(bert: WordPiece, parts: list[str]) -> None:
    text = "".join(parts)
    assert fast(bert).encode(text.encode()).tolist() == bert._encode_readably(text)


@pytest.mark.parametrize(
    "n", [3000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["sample", "all"]
)
def test_equals_hugging_face(
    bert: WordPiece, mirror: Callable[[str], Path], random_texts: RandomTexts, n: int
) -> None:
    theirs = tokenizers.Tokenizer.from_file(str(mirror("tokenizers/bert/tokenizer.json")))
    theirs.no_padding()
    theirs.no_truncation()
    fast(bert).encode(b"loaded")  # so that texts of any length go through the kernel
    texts = [*random_texts(n, 24)]
    ours = bert.encode_batch(texts, allowed_special="all")
    for text, ids in zip(texts, ours, strict=True):
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids, text
