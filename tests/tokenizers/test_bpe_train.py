from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe_train import count_words, learn_merges

BYTES = [bytes([value]) for value in range(256)]


def naive(words: dict[str, int], wanted: int, least: int) -> tuple[list[bytes], list]:
    """The rule again, on spellings, counting everything anew each time."""
    parts = {word: [bytes([b]) for b in word.encode()] for word in words}
    tokens = list(BYTES)
    merges = []
    while len(tokens) < 256 + wanted:
        counts: Counter = Counter()
        for word, n in words.items():
            for left, right in itertools.pairwise(parts[word]):
                counts[tokens.index(left), tokens.index(right)] += n
        if not counts:
            break
        (left, right), n = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if n < least:
            break
        merges.append((left, right))
        new = tokens[left] + tokens[right]
        if new not in tokens:
            tokens.append(new)
        for word, old in parts.items():
            row, i = [], 0
            while i < len(old):
                if old[i : i + 2] == [tokens[left], tokens[right]]:
                    row.append(new)
                    i += 2
                else:
                    row.append(old[i])
                    i += 1
            parts[word] = row
    return tokens[256:], merges


def test_sennrichs_example_by_hand() -> None:
    """low 5, lower 2, newest 6, widest 3 (arXiv:1508.07909, algorithm 1, without its </w>).

    es 9 (st also 9, but e < s), es+t 9; then lo 7 (ow also 7), lo+w 7; then newest: e+w, n+ew,
    new+est 6 each, of which e+w has the smallest ids.
    """
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    learned, _ = learn_merges(words, BYTES, 7, min_frequency=2)
    assert learned == [b"es", b"est", b"lo", b"low", b"ew", b"new", b"newest"]


@given(
    st.dictionaries(st.text("aab", min_size=1, max_size=24), st.integers(1, 4), max_size=8),
    st.integers(0, 30),
    st.integers(1, 3),
)
def test_the_naive_trainer_learns_the_same(words: dict[str, int], wanted: int, least: int) -> None:
    assert learn_merges(words, BYTES, wanted, min_frequency=least) == naive(words, wanted, least)


def test_a_pair_that_spells_a_known_token_makes_that_token() -> None:
    learned, merges = learn_merges({"abc": 2}, [*BYTES, b"ab"], 1, min_frequency=1)
    assert (learned, merges) == ([b"abc"], [(97, 98), (256, 99)])


def test_words_are_counted_over_documents_and_special_tokens_are_not() -> None:
    counts = count_words(iter(["a b<|x|> b", " b"]), ["<|x|>"])
    assert counts == {"a": 1, " b": 3}


def test_a_bad_document_is_named() -> None:
    with pytest.raises(TokenizerError, match="document 1: the text holds a lone surrogate"):
        count_words(["good", "bad \udc80"], [])


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    learn_merges({"abc": 2}, BYTES, 2, min_frequency=1, progress=lambda *n: seen.append(n))
    assert seen == [(1, 2), (2, 2)]
