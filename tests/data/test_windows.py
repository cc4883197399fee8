from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.data.tokens import TokenArray
from stemma.data.windows import IGNORE_INDEX, PackedDocuments, SlidingWindows
from stemma.errors import ConfigError, DataError

_ = IGNORE_INDEX


def every(windows: SlidingWindows | PackedDocuments, epoch: int = 0) -> list[list[list[int]]]:
    rows = windows.rows(np.arange(len(windows)), epoch)
    parts = [rows.ids, rows.labels]
    if rows.document_ids is not None:
        parts.append(rows.document_ids)
    return [part.tolist() for part in parts]


def test_the_books_windows() -> None:
    # Raschka, chapter 2: context 4, stride 1 over the ids 290, 4920, 2241, 287, 257, ...
    windows = SlidingWindows(TokenArray([290, 4920, 2241, 287, 257, 4489]), 4, stride=1)
    pairs = [(inputs.tolist(), targets.tolist()) for inputs, targets in windows]
    assert pairs == [
        ([290, 4920, 2241, 287], [4920, 2241, 287, 257]),
        ([4920, 2241, 287, 257], [2241, 287, 257, 4489]),
    ]
    with pytest.raises(DataError, match=r"window 2 or 2 is not in 0 \.\. 1"):
        windows[2]


def test_every_token_is_predicted_once_and_the_tail_is_left_out() -> None:
    windows = SlidingWindows(TokenArray(range(11)), 3)
    ids, labels = every(windows)
    assert ids == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert labels == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert windows.n_left_out == 1
    assert windows.rows(np.array([0])).document_ids is None


@given(st.integers(2, 60), st.integers(1, 10), st.integers(1, 12), st.booleans(), st.integers(0, 9))
def test_sliding_windows_by_brute_force(
    n: int, context: int, stride: int, shifted: bool, epoch: int
) -> None:
    if n < context + 1:
        with pytest.raises(DataError, match=f"needs {context + 1}"):
            SlidingWindows(TokenArray(range(n)), context, stride)
        return
    windows = SlidingWindows(
        TokenArray(range(n)), context, stride, phase_seed=4 if shifted else None
    )
    ids, labels = every(windows, epoch)
    starts = range(windows.phase(epoch), n - context, stride)[: len(windows)]
    assert len(ids) == len(windows) == len(starts) >= 1
    assert ids == [list(range(s, s + context)) for s in starts]
    assert labels == [list(range(s + 1, s + context + 1)) for s in starts]
    assert windows.n_left_out == n - 1 - len({label for row in labels for label in row})
    assert windows.n_left_out < stride * (2 if shifted else 1) + n * (stride > context)


def test_each_epoch_is_cut_elsewhere_and_the_cut_is_a_pure_function() -> None:
    tokens = TokenArray(range(1000))
    windows = SlidingWindows(tokens, 16, phase_seed=1)
    phases = [windows.phase(epoch) for epoch in range(200)]
    assert set(phases) == set(range(24))  # 61 windows of 16 fit from 0 to 23 on
    assert phases == [SlidingWindows(tokens, 16, phase_seed=1).phase(e) for e in range(200)]
    assert phases != [SlidingWindows(tokens, 16, phase_seed=2).phase(e) for e in range(200)]
    assert phases[:4] == [17, 7, 10, 12]  # frozen: a resumed run must see the same windows
    assert {
        label for epoch in range(200) for row in every(windows, epoch)[1] for label in row
    } == set(range(1, 1000))


def test_packed_documents_by_hand() -> None:
    # Three documents, each closed by 9: [1 2 9] [3 9] [4 5 6 9]
    tokens = TokenArray([1, 2, 9, 3, 9, 4, 5, 6, 9], [0, 3, 5, 9])
    ids, labels, documents = every(PackedDocuments(tokens, 4))
    assert ids == [[1, 2, 9, 3], [9, 4, 5, 6]]
    assert labels == [[2, 9, _, 9], [_, 5, 6, 9]]
    assert documents == [[0, 0, 0, 1], [0, 1, 1, 1]]
    ids, labels, documents = every(PackedDocuments(tokens, 5))
    assert ids == [[1, 2, 9, 3, 9], [4, 5, 6, 9, 9]]
    assert labels == [[2, 9, _, 9, _], [5, 6, 9, _, _]]
    assert documents == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 12))
def test_packed_documents_by_brute_force(lengths: list[int], context: int) -> None:
    n = sum(lengths)
    if n < 2:
        with pytest.raises(DataError, match="nothing to predict"):
            PackedDocuments(TokenArray(range(n)), context)
        return
    owner = [i for i, length in enumerate(lengths) for _length in range(length)]
    windows = PackedDocuments(TokenArray(range(n), np.cumsum([0, *lengths])), context)
    ids, labels, documents = every(windows)
    predicted = []
    for row, (row_ids, row_labels, row_documents) in enumerate(
        zip(ids, labels, documents, strict=True)
    ):
        for t, label in enumerate(row_labels):
            position = row * context + t
            assert position >= n or row_ids[t] == position
            if label != IGNORE_INDEX:
                assert label == position + 1
                assert owner[position] == owner[label]
                predicted.append(label)
            for u in range(t):
                same = position < n and owner[row * context + u] == owner[position]
                padding = row * context + u >= n
                assert (row_documents[u] == row_documents[t]) == (same or padding)
        assert row_documents[0] == 0
    firsts = set(np.cumsum([0, *lengths]).tolist())
    assert predicted == [position for position in range(n) if position not in firsts]


def test_bad_arguments() -> None:
    tokens = TokenArray(range(10))
    with pytest.raises(ConfigError, match="context_length = 0"):
        SlidingWindows(tokens, 0)
    with pytest.raises(ConfigError, match="context_length = -1"):
        PackedDocuments(tokens, -1)
    with pytest.raises(ConfigError, match="stride = 0"):
        SlidingWindows(tokens, 4, stride=0)
    for windows in (SlidingWindows(tokens, 4), PackedDocuments(tokens, 4)):
        with pytest.raises(DataError, match=r"window -1 or 0 is not in 0"):
            windows.rows(np.array([0, -1]))
        with pytest.raises(DataError, match=r"or 7 is not in 0"):
            windows.rows(np.array([7]))
