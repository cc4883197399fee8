"""The kernels against the readable way and tiktoken, on random vocabularies and texts."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.tokenizers import ByteLevelBPE, gpt2
from stemma.tokenizers.bpe import compiled as fast
from stemma.tokenizers.bpe.merge import SpelledRanks, merge_long_word, merge_word
from stemma.tokenizers.kernels import word_cache
from stemma.tokenizers.scan.patterns import rule

RandomTexts = Callable[[int, int], Iterator[str]]
BYTES = [bytes([value]) for value in range(256)]


def random_ranks(generator: random.Random, n: int) -> dict[bytes, int]:
    """Bytes and random strings in random order, as no trainer would put them."""
    tokens = set(BYTES)
    while len(tokens) < 256 + n:
        tokens.add("".join(generator.choices("ab é", k=generator.randint(2, 6))).encode())
    order = sorted(tokens)
    generator.shuffle(order)
    return {token: i for i, token in enumerate(order)}


def random_merges(
    generator: random.Random, n: int, letters: str = "ab "
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Merges of random tokens, of which some spell what others spell."""
    spellings = list(BYTES)
    merges: dict[tuple[int, int], None] = {}
    while len(merges) < n:
        known = [*letters.encode(), *range(256, len(spellings))]
        pair = (generator.choice(known), generator.choice(known))
        joined = spellings[pair[0]] + spellings[pair[1]]
        if pair in merges or len(joined) > 9:
            continue
        merges[pair] = None
        if joined not in spellings:
            spellings.append(joined)
    order = list(merges)
    generator.shuffle(order)
    return spellings, order


def readably(tokenizer: ByteLevelBPE, text: str) -> list[int]:
    return [id_ for word in tokenizer._splitter.split(text) for id_ in tokenizer._encode_word(word)]


def texts_for(generator: random.Random, n: int) -> list[str]:
    return ["".join(generator.choices("aaabbb éc\n", k=generator.randint(0, 40))) for _ in range(n)]


@pytest.mark.parametrize("seed", range(25))
def test_random_ranks_give_tiktokens_ids(seed: int) -> None:
    generator = random.Random(seed)
    ranks = random_ranks(generator, generator.randint(0, 120))
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern="gpt2")
    theirs = tiktoken.Encoding(
        "random", pat_str=rule("gpt2")[0], mergeable_ranks=ranks, special_tokens={}
    )
    for text in [*texts_for(generator, 60), "ab" * 90, "a" * 400]:
        expected = theirs.encode_ordinary(text)
        assert readably(ours, text) == expected
        assert ours._compiled.encode(text.encode()).tolist() == expected


@pytest.mark.parametrize("seed", range(60))
def test_ranks_in_any_order_of_words_of_any_length(seed: int) -> None:
    """A token may come before those it is made of; the words are lines, long ones among them."""
    generator = random.Random(seed)
    tokens = {"".join(generator.choices("abcd", k=generator.randint(2, 4))) for _ in range(12)}
    ranks = {token: i for i, token in enumerate([*BYTES, *(t.encode() for t in sorted(tokens))])}
    order = list(ranks)[256:]
    generator.shuffle(order)
    ranks |= {token: 256 + i for i, token in enumerate(order)}
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern=(LINES,))
    theirs = tiktoken.Encoding("random", pat_str=LINES, mergeable_ranks=ranks, special_tokens={})
    for size in [*range(40), 63, 64, 65, 80, 255, 256, 257, 400]:
        text = "".join(generator.choices("abcd", k=size))
        expected = theirs.encode_ordinary(text)
        assert readably(ours, text) == expected
        assert ours._compiled.encode(text.encode()).tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["abc", "ab", "cd", "abcd"], "xabcd"),
        (["dbd", "bda", "bd"], "x" * 70 + "dbda"),
    ],
)
def test_a_token_before_those_it_is_made_of(tokens: list[str], text: str) -> None:
    ranks = {t: i for i, t in enumerate([*BYTES, *(token.encode() for token in tokens)])}
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern=(LINES,))
    theirs = tiktoken.Encoding("few", pat_str=LINES, mergeable_ranks=ranks, special_tokens={})
    assert readably(ours, text) == theirs.encode_ordinary(text)
    assert ours._compiled.encode(text.encode()).tolist() == theirs.encode_ordinary(text)


@pytest.mark.parametrize("n_characters", [0, 1, 31, 32, 33, 64])
def test_what_is_left_of_a_word_is_no_word(n_characters: int) -> None:
    """A token that no merge makes is found where it is the word, and nowhere else."""
    ranks = {t: i for i, t in enumerate([*BYTES, b"xyz"])}
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern=(LINES,))
    theirs = tiktoken.Encoding("few", pat_str=LINES, mergeable_ranks=ranks, special_tokens={})
    text = "世" * n_characters + "xyz"
    assert ours._compiled.encode(text.encode()).tolist() == theirs.encode_ordinary(text)


def test_a_merge_before_those_that_make_its_parts() -> None:
    spellings = [*BYTES, "é".encode(), "éa".encode(), "béa".encode(), b"bb"]
    merges = [(98, 257), (256, 97), (98, 98), (0xC3, 0xA9)]
    tokenizer = ByteLevelBPE(spellings, merges)
    for text in ("bbéa", "béa", "éa", "bbéabbéa"):
        assert tokenizer._compiled.encode(text.encode()).tolist() == readably(tokenizer, text)
    assert readably(tokenizer, "bbéa") == [259, 257]


def test_an_empty_text_that_is_one_word_has_no_ids() -> None:
    tokenizer = ByteLevelBPE(BYTES, [], pattern=())
    assert tokenizer._compiled.encode(b"").tolist() == []
    found = tokenizer._compiled.encode_texts([b"", b"a", b"", b"", b"b", b""])
    assert [ids.tolist() for ids in found] == [[], [97], [], [], [98], []]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("whole_words", [False, True])
def test_random_merges_give_the_ids_of_the_readable_way(seed: int, whole_words: bool) -> None:
    generator = random.Random(seed)
    spellings, merges = random_merges(generator, generator.randint(1, 60))
    tokenizer = ByteLevelBPE(spellings, merges, whole_words=whole_words)
    for text in [*texts_for(generator, 60), "ab" * 90, "a" * 400, "ba" * 4000]:
        assert tokenizer._compiled.encode(text.encode()).tolist() == readably(tokenizer, text)


LINES = r"[^\n]+|\n"
WIDE = "aé\u00c0のにの。日目\u00a0\U0001f600\U0001f601"


@pytest.mark.parametrize("seed", range(60))
def test_parts_of_characters_may_merge_across_their_edges(seed: int) -> None:
    """Where only a few merges do, most characters begin as tokens; their bytes may be missing."""
    generator = random.Random(seed)
    inside = {character.encode() for character in WIDE}
    spellings, merges = list(BYTES), []
    for pair in random_merges(generator, 400, WIDE)[1]:
        if max(pair) >= len(spellings):
            continue
        joined = spellings[pair[0]] + spellings[pair[1]]
        crossing = not any(joined in character for character in inside)
        if joined in spellings or (crossing and generator.random() < 0.8):
            continue
        merges.append(pair)
        spellings.append(joined)
    if seed % 3 == 0:
        generator.shuffle(merges)  # then a merge may come before those that make its parts
    missing = [b"\x04", b"a", b"\xe3", b"\x81", b"\xf0"][seed // 2 % 5 :][:1] if seed % 2 else []
    gone = [b"" if spelling in missing else spelling for spelling in spellings]
    kept = [pair for pair in merges if gone[pair[0]] and gone[pair[1]]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = ByteLevelBPE(gone, kept, drop_unknown=True)
    assert not missing or not tokenizer._has_every_byte
    for _ in range(60):
        text = "".join(generator.choices(WIDE + "\x04", k=generator.randint(0, 60)))
        assert tokenizer._compiled.encode(text.encode()).tolist() == readably(tokenizer, text)


@pytest.mark.parametrize("seed", range(60))
def test_words_are_cut_only_where_nothing_merges(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few tokens of wide characters, some of which end or begin within one, and a small cache."""
    monkeypatch.setattr(fast, "CACHE_BYTES", 64 * 64)
    generator = random.Random(seed)
    ranks = {byte: i for i, byte in enumerate(generator.sample(BYTES, 256))}
    for _ in range(generator.randint(5, 60)):
        text = "".join(generator.choices(WIDE, k=generator.randint(1, 4))).encode()
        start, end = sorted(generator.sample(range(len(text) + 1), 2))
        ranks.setdefault(text[start:end], len(ranks))
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern="gpt2")
    theirs = tiktoken.Encoding(
        "random", pat_str=rule("gpt2")[0], mergeable_ranks=ranks, special_tokens={}
    )
    for _ in range(150):
        text = "".join(generator.choices(WIDE, k=generator.choice([1, 3, 5, 20, 60, 300])))
        assert ours._compiled.encode(text.encode()).tolist() == theirs.encode_ordinary(text)


def test_what_is_left_of_a_character_may_merge_with_the_one_before() -> None:
    spellings = [b"" if byte == b"\xe3" else byte for byte in BYTES] + [b"\xa9\x81", b"\xc3\xa9"]
    with pytest.warns(UserWarning, match="0xe3"):
        tokenizer = ByteLevelBPE(spellings, [(0xA9, 0x81), (0xC3, 0xA9)], drop_unknown=True)
    expected = [0xC3, 256, 0xAE]
    assert readably(tokenizer, "éの") == expected
    assert tokenizer._compiled.encode("éの".encode()).tolist() == expected


@pytest.mark.parametrize("token", [b"\xfa\r", b"\xfa\xfa", b"\r\xfa", b"a\xfab"])
def test_a_token_of_a_byte_that_has_none_is_made_by_no_merge(token: bytes) -> None:
    ranks = {byte: i for i, byte in enumerate(BYTES) if byte != b"\xfa"} | {token: 250}
    tokenizer = ByteLevelBPE.from_ranks(ranks, {}, pattern="gpt2")
    assert tokenizer.merges == []
    assert tokenizer._compiled.encode(b"\rab\r").tolist() == [13, 97, 98, 13]


@pytest.mark.parametrize("seed", range(8))
def test_the_merges_found_from_ranks_are_the_only_ones_ever_used(seed: int) -> None:
    generator = random.Random(seed)
    ranks = random_ranks(generator, 80)
    by_rank = ByteLevelBPE.from_ranks(ranks, {}, pattern="gpt2")
    every_pair = SpelledRanks(by_rank._spellings, ranks)
    few = {
        pair: ranks[by_rank._spellings[pair[0]] + by_rank._spellings[pair[1]]]
        for pair in by_rank.merges
    }
    assert len(few) <= 80
    for text in texts_for(generator, 200):
        ids = [ranks[bytes([byte])] for byte in text.encode()]
        results = range(len(ranks))
        merged = merge_word(list(ids), few, results)
        assert merged == merge_word(list(ids), every_pair, results)
        assert merged == merge_long_word(list(ids), every_pair, results)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_gpt2_in_both_ways(text: str) -> None:
    compiled = gpt2()._compiled
    assert compiled.encode(text.encode()).tolist() == readably(gpt2(), text)


def test_words_of_every_length_are_told_apart() -> None:
    """Zero bytes and lengths about the edges of the cache's entries; twice, so that it answers."""
    words = ["\0" * n for n in range(1, 80)] + ["a" * n for n in range(1, 80)]
    words += ["q" * n + "\0" for n in range(1, 80)]
    for _ in range(2):
        for word in words:
            assert gpt2()._compiled.encode(word.encode()).tolist() == readably(gpt2(), word)


def test_a_full_cache_forgets_and_is_right(
    random_texts: RandomTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "CACHE_BYTES", 64 * 8)
    compiled = fast.CompiledBPE(
        fast.Vocabulary(
            gpt2()._spellings,
            np.arange(50256, dtype=np.int32),
            gpt2().merges,
            gpt2()._results,
            False,
        ),
        gpt2()._splitter,
    )
    for text in random_texts(300, 12):
        assert compiled.encode(text.encode()).tolist() == readably(gpt2(), text)


def test_a_hash_that_collides_takes_no_word_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long words are found by a hash of theirs; the tokens found must spell the word."""
    a, b = "x" * 20, "y" * 20
    compiled = gpt2()._compiled
    compiled.encode(a.encode())
    desk = compiled._desks[-1]
    places = desk.scratch.cache.reshape(-1, 8)
    hashed = [word_cache.hash_long(_padded(word), 0, 20) for word in (a, b)]
    held = np.flatnonzero(places.view(np.uint64)[:, 0] == hashed[0])
    assert held.size == 1
    # Put the tokens of a where b is sought, under b's hash.
    compiled.encode(b.encode())
    where = np.flatnonzero(places.view(np.uint64)[:, 0] == hashed[1])
    places[where[0], 4:] = places[held[0], 4:]
    assert compiled.encode(b.encode()).tolist() == readably(gpt2(), b)


def _padded(word: str) -> np.ndarray:
    return np.frombuffer(word.encode() + bytes(16), np.uint8)


def test_a_batch_is_every_text_by_itself(random_texts: RandomTexts) -> None:
    texts = ["", "", *random_texts(2000, 13), "", "a" * 300_000, "", "b c " * 100_000, "", "x", ""]
    expected = [gpt2()._compiled.encode(text.encode()).tolist() for text in texts]
    for threads in (1, 2, 5):
        found = gpt2().encode_batch(texts, threads=threads)
        assert [ids.tolist() for ids in found] == expected


def test_threads_do_not_disturb_each_other(random_texts: RandomTexts) -> None:
    texts = ["".join(random_texts(300, seed)) for seed in range(24)]
    expected = [gpt2()._compiled.encode(text.encode()).tolist() for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: gpt2()._compiled.encode(text.encode()), texts * 4))
    assert [ids.tolist() for ids in found] == expected * 4


def test_decoding_by_kernel(random_texts: RandomTexts) -> None:
    text = "".join(random_texts(3000, 14)) + "".join(map(chr, range(0x20, 0xD7FF, 7)))
    ids = gpt2()._compiled.encode(text.encode())
    assert gpt2()._compiled.decode(ids) == text.encode()
    every = np.arange(50257, dtype=np.int32)
    assert gpt2()._compiled.decode(every) == b"".join(gpt2()._spellings)


def test_spans_are_the_bytes_of_the_tokens(random_texts: RandomTexts) -> None:
    for text in random_texts(200, 15):
        ids, spans = gpt2().encode_with_offsets(text)
        data = text.encode()
        assert [data[a:b] for a, b in spans.tolist()] == [gpt2().token_bytes(i) for i in ids]
        assert ids.tolist() == gpt2().encode(text).tolist()
