from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import word_counts
from stemma.tokenizers.scan.words import split_words
from stemma.tokenizers.word_counts import WordCounts, count_words

BEYOND_THE_MACHINE = (r"(?<=e)\w+|\w|\W",)


@pytest.fixture(params=[False, True], ids=["readable", "kernels"])
def _each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda n_bytes: request.param)


@pytest.fixture
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda n_bytes: True)


@pytest.mark.usefixtures("_each_way")
class TestEachWay:
    def test_words_are_counted_over_documents_and_special_tokens_are_not(self) -> None:
        counts = count_words(iter(["a b<|x|> b", " b"]), ["<|x|>"])
        assert counts.to_dict() == {"a": 1, " b": 3}
        assert list(counts) == [(b"a", 1), (b" b", 3)]
        assert len(counts) == 2

    def test_nothing_to_count(self) -> None:
        assert count_words([]).to_dict() == {}
        assert count_words(["", ""]).to_dict() == {}
        assert count_words(["<|x|>"], ["<|x|>"]).to_dict() == {}

    def test_a_bad_document_is_named(self) -> None:
        with pytest.raises(TokenizerError, match="document 1: the text holds a lone surrogate"):
            count_words(["good", "bad \udc80"])

    def test_one_string_is_no_list_of_texts(self) -> None:
        with pytest.raises(TokenizerError, match="iterable of texts"):
            count_words("a text")

    def test_zeros_are_characters(self) -> None:
        """A short word is its own key in the table: with its length, or these would be one."""
        words = [" \0", " \0\0", " \0\0\0", "\0"]
        assert count_words(words).to_dict() == dict.fromkeys(words, 1)

    def test_words_of_every_length_around_eight_bytes(self) -> None:
        text = " ".join("abcdefghijklmnopqrs"[:n] for n in range(1, 20) for _ in range(n))
        counted = count_words([text + " "]).to_dict()
        assert counted.pop(" ") == 1
        assert counted.pop("a") == 1
        assert counted == {" " + "abcdefghijklmnopqrs"[:n]: n for n in range(2, 20)}

    @pytest.mark.parametrize("pattern", ["gpt2", "o200k", "smollm", BEYOND_THE_MACHINE])
    @pytest.mark.filterwarnings("ignore:the pattern")
    def test_any_text(
        self, pattern: str | tuple[str, ...], random_texts: Callable[[int, int], Iterator[str]]
    ) -> None:
        texts = list(random_texts(300, 5))
        expected = Counter(word for text in texts for word in split_words(text, pattern))
        counted = count_words(texts, pattern=pattern).to_dict()
        assert list(counted.items()) == list(expected.items())


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch_bytes", [1, 100, 5000])
def test_neither_threads_nor_batches_change_anything(
    threads: int,
    batch_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    monkeypatch.setattr(word_counts, "BATCH_BYTES", batch_bytes)
    texts = [*random_texts(100, 6), "", " ".join(random_texts(50, 7))]
    expected = Counter(word for text in texts for word in split_words(text, "cl100k"))
    counted = count_words(texts, pattern="cl100k", threads=threads)
    assert list(counted.to_dict().items()) == list(expected.items())


@pytest.mark.usefixtures("_kernels")
@given(st.lists(st.text(), max_size=8))
def test_any_documents(texts: list[str]) -> None:
    expected = Counter(word for text in texts for word in split_words(text))
    assert count_words(texts).to_dict() == expected


def test_a_short_text_before_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is short is not counted in another way, nor is what follows it forgotten."""
    monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda n_bytes: n_bytes >= 100_000)
    counted = count_words(["a b", "word " * 1_000_000]).to_dict()
    assert counted == {"a": 1, " b": 1, "word": 1, " word": 999_999, " ": 1}


@pytest.mark.usefixtures("_kernels")
def test_the_kernel_finds_eight_bytes_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from stemma.tokenizers.kernels import count

    sizes = []

    def add_words(*arguments: Any) -> Any:
        sizes.append(arguments[5].size)
        return real(*arguments)

    real = count.add_words
    monkeypatch.setattr(count, "add_words", add_words)
    assert count_words(["a b"]).to_dict() == {"a": 1, " b": 1}
    assert sizes == [8, 8]


@pytest.mark.usefixtures("_kernels")
def test_the_table_grows() -> None:
    words = [f" {i:x}z{i * i:x}" for i in range(300_000)]
    random.Random(0).shuffle(words)
    text = "".join(words)
    expected = Counter(split_words(text))
    assert count_words([text], threads=2).to_dict() == expected


def test_a_word_longer_than_the_table() -> None:
    counted = count_words(["a" * 5_000_000 + " b"]).to_dict()
    assert {len(word): count for word, count in counted.items()} == {5_000_000: 1, 2: 1}


_PRIME, _BITS = 0x9E3779B97F4A7C15, 1 << 64


def _mixed(state: int, block: int) -> int:
    """What the hash makes of eight more bytes."""
    product = (state ^ block) * _PRIME % _BITS
    return product ^ product >> 32


def _unmixed(state: int, mixed: int) -> int:
    """The eight bytes of which it makes that."""
    return (mixed ^ mixed >> 32) * pow(_PRIME, -1, _BITS) % _BITS ^ state


def test_words_of_the_same_hash_are_told_apart() -> None:
    """The hash is undone: for two words of 16 bytes; for one of 16 bytes and two of 8."""
    from stemma.tokenizers.kernels.count import long_key

    one, other, end = 123, 456, 789
    same_end = end ^ _mixed(16, one) ^ _mixed(16, other)
    same_but_highest = _unmixed(8, _mixed(8, end) ^ 1 << 63)
    longer = [end, _unmixed(_mixed(16, end), _mixed(8, end))]
    blocks = [[one, end], [other, same_end], longer, [end], [same_but_highest]]
    words = [b"".join(block.to_bytes(8, "little") for block in word) for word in blocks]
    keys = [int(long_key(np.frombuffer(word, np.uint8), 0, len(word))) for word in words]
    assert keys[0] == keys[1] != keys[2] == keys[3] == keys[4]
    table = word_counts._WordTable()
    data = np.frombuffer(b"".join(words * 3), np.uint8)
    ends = np.cumsum([16, 16, 16, 8, 8] * 3, dtype=np.int32)
    table.add(data, ends, np.arange(15))
    assert list(table.words()) == [(word, 3 * i + 15) for i, word in enumerate(words)]


def test_what_cannot_be_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_MOST_BYTES", 99)
    monkeypatch.setattr(word_counts, "BATCH_BYTES", 10)
    assert count_words(["a b " * 100]).to_dict()["a"] == 1
    with pytest.raises(TokenizerError, match="101 in which no word surely ends"):
        count_words(["a" * 101])


def test_files_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one two\n" * 1000, "utf-8")
    assert count_words(path).to_dict() == {"one": 1000, " two": 1000, "\n": 1000}
    assert count_words([path, "one"]).to_dict()["one"] == 1001


def test_counts_from_a_mapping() -> None:
    counts = WordCounts.of({"é": 2, "": 1})
    assert counts.data.tolist() == [0xC3, 0xA9]
    assert counts.to_dict() == {"é": 2, "": 1}
    assert list(WordCounts.of({})) == []


@pytest.mark.parametrize("pattern", [r"\S+\s*", r"[a-z ]+|[^a-z ]+", r"[\s\S]{1,5}"])
def test_files_are_cut_where_the_pattern_ends_a_word(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ab cd. ef gh\n12 3\n" * 300
    path = tmp_path / "a.txt"
    path.write_text(text)
    monkeypatch.setattr("stemma.tokenizers.text_files.read_chunks.__defaults__", (64,))
    whole = count_words([text], (), (pattern,)).to_dict()
    assert count_words([path], (), (pattern,)).to_dict() == whole
