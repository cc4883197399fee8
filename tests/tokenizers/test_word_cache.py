"""The cache of words: it may forget, but never says anything wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stemma.tokenizers.kernels import word_cache

# Few words, and tokens that spell them, so that what is left of one might be taken for another.
WORDS = [b"a", b"b", b"aa", b"bb", b"abcdefgh", b"abcdefghijklmno", b"\0", b"\0\0"]
SPELLINGS = [int.from_bytes(word[:3], "little") for word in (b"a", b"b", b"aa", b"bb", b"abc")]
TOKENS = st.lists(
    st.sampled_from([0, 1, *SPELLINGS, 2**21 - 2]), min_size=1, max_size=word_cache.MOST_TOKENS
)


AA = SPELLINGS[2]


@example(1, [(b"b", [1], 0), (b"bb", [1], 1), (b"abcdefgh", [0, 0, 0, AA, 0], 0)])
@example(1, [(b"abcdefgh", [0, 0, 0, AA, 0], 0), (b"a", [1], 0), (b"b", [1], 1)])
@given(
    st.sampled_from([1, 2]),
    st.lists(st.tuples(st.sampled_from(WORDS), TOKENS, st.integers(0, 1)), max_size=12),
)
def test_a_word_is_recalled_with_its_tokens_or_not_at_all(
    lines: int, entries: list[tuple[bytes, list[int], int]]
) -> None:
    cache = np.zeros(lines * word_cache.LINE, np.int32)
    known: dict[bytes, list[int]] = {}
    for word, tokens, first in entries:
        ids = np.array([7] * first + tokens, np.int32)
        low, high = key(word)
        line = word_cache.line_of(cache, low, high)
        if not recalled(cache, word):  # as the encoder does: a word is never put in twice
            word_cache.remember(cache, line, low, high, ids, first, len(tokens))
            known[word] = tokens
            assert recalled(cache, word) == tokens
        for other in WORDS:
            assert recalled(cache, other) in ([], known.get(other, []))


def recalled(cache: np.ndarray, word: bytes) -> list[int]:
    ids = np.full(20, -9, np.int32)
    low, high = key(word)
    count = word_cache.recall(cache, word_cache.line_of(cache, low, high), low, high, ids, 2)
    assert (ids[:2] == -9).all()
    return ids[2 : 2 + count].tolist()


def key(word: bytes) -> tuple[np.uint64, np.uint64]:
    low, high = word_cache.short_key(np.frombuffer(word + bytes(16), np.uint8), 0, len(word))
    return np.uint64(low), np.uint64(high)
