from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stemma.tokenizers import BasicBPE
from stemma.tokenizers.bpe.merge import merge_long_word, merge_word, replace_pair

letters = st.text("abc", min_size=1, max_size=80)


def test_replacing_goes_from_left_to_right() -> None:
    assert replace_pair([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]


@given(training=letters, text=letters)
def test_both_ways_agree_with_the_readable_twin(training: str, text: str) -> None:
    tokenizer = BasicBPE.train([training], 280, allow_fewer=True)
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    results = list(tokenizer.merges.values())
    expected = tokenizer.encode(text).tolist()
    assert merge_word(list(text.encode()), ranks, results) == expected
    assert merge_long_word(list(text.encode()), ranks, results) == expected


def test_a_pair_that_a_neighbour_changed_is_not_merged_under_its_old_rank() -> None:
    """1 2 3: first 2 3 -> 9; the pair at the front is now 1 9, no longer 1 2."""
    ranks, results = {(2, 3): 0, (1, 2): 1, (1, 9): 2}, [9, 5, 7]
    assert merge_long_word([1, 2, 3], ranks, results) == [7]


@given(
    st.lists(st.integers(0, 5), max_size=40),
    st.lists(st.tuples(*[st.integers(0, 9)] * 2), unique=True, max_size=12),
    st.data(),
)
def test_both_ways_agree_even_on_merges_no_training_makes(
    ids: list[int], pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    results = [data.draw(st.integers(0, 9)) for _ in pairs]
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    assert merge_long_word(list(ids), ranks, results) == merge_word(list(ids), ranks, results)
