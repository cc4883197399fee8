"""What a list of merges makes, looked up all at once: as one merge after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge_list import as_pairs, as_rows, results_of

SINGLE = [b"a", b"b", b"c" * 9, b""]


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Tokens, each made of two before it; some vocabularies in another order than the merges."""
    tokens, merges = list(SINGLE), []
    for _ in range(draw(st.integers(1, 12))):
        pair = draw(st.tuples(*[st.sampled_from([i for i, t in enumerate(tokens) if t])] * 2))
        if (joined := tokens[pair[0]] + tokens[pair[1]]) not in tokens:
            merges.append(pair)
            tokens.append(joined)
    if draw(st.booleans()):
        merges = draw(st.permutations(merges))
    return tokens, merges


@given(vocabularies(), st.data())
def test_results_are_those_of_one_merge_after_another(
    vocabulary: tuple[list[bytes], list[tuple[int, int]]], data: st.DataObject
) -> None:
    tokens, merges = vocabulary
    ids = {token: i for i, token in enumerate(tokens) if token}
    expected = [ids[tokens[left] + tokens[right]] for left, right in merges]
    assert list(results_of(as_rows(merges), tokens, dict(ids), ())) == expected
    if not merges:
        return
    # A merge that is changed is noticed, unless it makes a token even so.
    at = data.draw(st.integers(0, len(merges) - 1))
    wrong = data.draw(st.tuples(st.integers(-1, len(tokens)), st.integers(-1, len(tokens))))
    changed = [*merges[:at], wrong, *merges[at + 1 :]]
    inside = all(0 <= i < len(tokens) for i in wrong)
    joined = b"".join(tokens[i] for i in wrong) if inside else None
    if joined not in tokens:
        with pytest.raises(TokenizerError, match=r"merge of ids .* makes no token"):
            results_of(as_rows(changed), tokens, dict(ids), ())
    elif len(set(changed)) != len(changed):
        with pytest.raises(TokenizerError, match="listed twice"):
            results_of(as_rows(changed), tokens, dict(ids), ())
    elif joined:
        expected[at] = ids[joined]
        assert list(results_of(as_rows(changed), tokens, dict(ids), ())) == expected


@pytest.mark.parametrize("wrong", [(1, 1), (0, 0), (0, -5), (0, 6), (2, 2)])
def test_one_merge_of_several_that_makes_no_token(wrong: tuple[int, int]) -> None:
    """Each is as long as it should be, or would be right if ids were counted from the end."""
    tokens = [b"a", b"b", b"", b"ba", b"ab", b"bab"]
    ids = {token: i for i, token in enumerate(tokens) if token}
    assert list(results_of(as_rows([(1, 0), (0, 1), (1, 4)]), tokens, ids, ())) == [3, 4, 5]
    for merges in ([(0, 1), wrong], [wrong, (0, 1)], [(1, 0), wrong, (1, 4)]):
        with pytest.raises(TokenizerError, match=f"ids .{wrong[0]}, {wrong[1]}. makes no token"):
            results_of(as_rows(merges), tokens, ids, ())
    with pytest.raises(TokenizerError, match="makes no token"):
        results_of(as_rows([(0, 1), (3, 3)]), [b"a", b"b", b"ab", b""], {b"ab": 2}, ())


def test_an_added_token_that_a_merge_makes_is_learned() -> None:
    ids = {b"a": 0, b"b": 1}
    assert list(results_of(as_rows([(0, 1)]), [b"a", b"b", b"ab"], ids, {2})) == [2]
    assert ids == {b"a": 0, b"b": 1, b"ab": 2}
    ids = {b"a": 0, b"b": 1, b"ab": 2}
    tokens = [b"a", b"b", b"ab", b"abb"]
    assert list(results_of(as_rows([(0, 1), (2, 1)]), tokens, ids, {3})) == [2, 3]
    assert ids == {b"a": 0, b"b": 1, b"ab": 2, b"abb": 3}


def test_rows_and_pairs() -> None:
    assert as_pairs(as_rows([(0, 1), (2, 3)])) == [(0, 1), (2, 3)]
    assert as_pairs(as_rows([])) == []
    for wrong in ([(0, 1), (2,)], [(0, "a")], [(1 << 70, 0)], [(0, 1, 2)]):
        with pytest.raises(TokenizerError, match="pairs of ids"):
            as_rows(wrong)  # type: ignore[arg-type]
