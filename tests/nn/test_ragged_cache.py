"""Caches whose rows differ in length: each row is what it would be by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.models import Transformer, TransformerConfig
from stemma.nn import BlockPool, CacheLayout, PagedCache, RaggedCache

LAYOUT = CacheLayout(1, 2, 3)
KINDS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"position": {"kind": "rotary"}, "attention": {"n_heads": 4, "n_kv_heads": 2}},
    "alibi": {"position": {"kind": "alibi"}},
    "buckets": {"position": {"kind": "relative_buckets"}},
    "window": {"position": {"kind": "rotary"}, "local": {"window": 3, "global_every": 2}},
    "sinks": {"attention": {"n_heads": 4, "sinks": True, "softcap": 5.0}},
}


def model_of(kind: str) -> Transformer:
    sizes = {"vocab_size": 30, "context_length": 24, "d_model": 16, "n_layers": 2}
    values = {**sizes, "attention": {"n_heads": 4}, **KINDS[kind]}
    model = Transformer(TransformerConfig.parse(values), seed=1).eval()
    weights = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=weights))
    return model


MODELS = {kind: model_of(kind) for kind in KINDS}


class Rows:
    """Texts fed in turns of any lengths, by either kind of cache, and forgotten in part."""

    def __init__(self, model: Transformer, n_rows: int, paged: bool) -> None:
        self.model, self.paged = model, paged
        self.texts: list[list[int]] = [[] for _ in range(n_rows)]
        self.cache = model.new_ragged_cache(n_rows)
        self.pool = model.new_block_pool(n_rows * 8, block_size=3)
        blocks = torch.randperm(n_rows * 8, generator=torch.Generator().manual_seed(3)).tolist()
        self.tables = [blocks[8 * row : 8 * row + 8] for row in range(n_rows)]

    def assert_alike(self, news: list[list[int]]) -> None:
        """Feed these ids; the hidden states are those of one pass over each whole text."""
        counts = [len(new) for new in news]
        n = max(counts)
        cache: RaggedCache | PagedCache = self.cache
        if self.paged:
            cache = self.pool.rows(self.tables, [len(text) for text in self.texts])
        cache.expect(counts)
        padded = torch.tensor([[*new, *[29] * (n - len(new))] for new in news])
        hidden = self.model.hidden_states(padded, cache=cache)
        for row, new in enumerate(news):
            self.texts[row] += new
            if new:
                whole = self.model.hidden_states(torch.tensor([self.texts[row]]))[0, -len(new) :]
                torch.testing.assert_close(hidden[row, : len(new)], whole, rtol=0, atol=2e-5)
        assert cache.lengths == tuple(len(text) for text in self.texts)

    def assert_alike_alone(self, row: int, new: list[int]) -> None:
        """Feed one row as a cache of its own."""
        cache = self.cache.row(row)
        assert cache.length == len(self.texts[row])
        hidden = self.model.hidden_states(torch.tensor([new]), cache=cache)
        self.texts[row] += new
        whole = self.model.hidden_states(torch.tensor([self.texts[row]]))
        torch.testing.assert_close(hidden, whole[:, -len(new) :], rtol=0, atol=2e-5)


id_lists = st.lists(st.integers(0, 29), max_size=5)
turns = st.lists(st.lists(id_lists, min_size=3, max_size=3).filter(any), min_size=1, max_size=5)


@pytest.mark.parametrize("paged", [False, True], ids=["ragged", "paged"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(turns)
@torch.inference_mode()
def test_each_row_is_what_it_would_be_alone(
    kind: str, paged: bool, turns: list[list[list[int]]]
) -> None:
    rows = Rows(MODELS[kind], 3, paged)
    for news in turns:
        if all(len(a) + len(b) <= 24 for a, b in zip(rows.texts, news, strict=True)):
            rows.assert_alike(news)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_row_is_a_cache_of_its_own(kind: str) -> None:
    rows = Rows(MODELS[kind], 3, paged=False)
    rows.assert_alike_alone(1, [4, 5, 6, 7, 8])
    rows.assert_alike([[1], [2, 3], []])
    rows.assert_alike_alone(2, [9, 8, 7])
    rows.assert_alike_alone(1, [6])
    rows.assert_alike([[1, 2, 3], [4], [5]])


@torch.inference_mode()
def test_rows_are_cut_back_and_chosen() -> None:
    rows = Rows(MODELS["rotary"], 3, paged=False)
    rows.assert_alike([[1, 2, 3, 4], [5], [6, 7]])
    rows.cache.truncate([2, 1, 0])
    rows.texts = [[1, 2], [5], []]
    rows.assert_alike([[9], [8, 7, 6], [5, 4]])
    rows.cache.select([2, 0, 0])
    rows.texts = [[*rows.texts[i]] for i in (2, 0, 0)]
    rows.assert_alike([[1], [2, 3], [4]])
    rows.cache.select([1])
    rows.texts = [rows.texts[1]]
    rows.assert_alike([[3, 3]])


@torch.inference_mode()
def test_a_full_row_beside_an_empty_one() -> None:
    """The padding of a full row stands nowhere: neither the context nor the memory overflows."""
    for paged in (False, True):
        rows = Rows(MODELS["learned"], 2, paged)
        rows.assert_alike([[*range(23)], []])
        rows.assert_alike([[7], [*range(23)]])
        rows.assert_alike([[], [7]])


def states(rows: int, n: int) -> torch.Tensor:
    return torch.ones(rows, 2, n, 3)


def test_padding_is_written_nowhere() -> None:
    cache = RaggedCache(LAYOUT, 2, 4)
    cache.expect([1, 3])
    keys, _ = cache.append(0, states(2, 3), states(2, 3))
    assert keys[:, 0, :, 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert cache.positions(3).tolist() == [[0, 0, 0], [0, 1, 2]]


def test_a_pass_that_was_interrupted_leaves_no_trace() -> None:
    cache = RaggedCache(LAYOUT, 2, 4)
    cache.append(0, states(2, 2), states(2, 2))
    assert cache.lengths == (0, 0)


@pytest.mark.parametrize("paged", [False, True], ids=["ragged", "paged"])
def test_a_pass_is_placed_anew_after_one_that_was_interrupted(paged: bool) -> None:
    """Whatever has changed: what is announced, how many ids come, or how long rows are."""
    layout = LAYOUT._replace(n_kv_heads=1, d_head=1)
    ragged = RaggedCache(layout, 2, 4)
    cache = BlockPool(layout, 4, 2).rows([[3, 1], [0, 2]], [0, 0]) if paged else ragged

    def rows_after(*given: list[int]) -> list[list[float]]:
        states = torch.tensor(given, dtype=torch.float32)[:, None, :, None]
        return cache.append(0, states, states)[0][:, 0, :, 0].tolist()

    cache.expect([1, 2])
    assert rows_after([1, 9], [2, 3]) == [[1, 0], [2, 3]]
    assert rows_after([1, 9, 9], [2, 3, 9]) == [[1, 0], [2, 3]]
    cache.expect([2, 1])
    assert rows_after([4, 5], [6, 9]) == [[4, 5], [6, 3]]
    cache.advance(2)
    assert cache.lengths == (2, 1)
    assert rows_after([7], [8]) == [[4, 5, 7], [6, 8, 0]]
    assert rows_after([1, 2], [3, 4]) == [[4, 5, 1, 2], [6, 3, 4, 0]]
    if not paged:
        ragged.truncate([1, 0])
        assert rows_after([7, 8], [9, 6]) == [[4, 7, 8], [9, 6, 4]]
        ragged.row(1).advance(1)
        assert rows_after([1, 2], [3, 5]) == [[4, 1, 2], [9, 3, 5]]


def test_what_is_expected_is_of_one_pass() -> None:
    cache = RaggedCache(LAYOUT, 2, 4)
    cache.expect([1, 0])
    cache.append(0, states(2, 1), states(2, 1))
    cache.advance(1)
    assert cache.lengths == (1, 0)
    assert cache.positions(2).tolist() == [[1, 2], [0, 1]]
    cache.append(0, states(2, 2), states(2, 2))
    cache.advance(2)
    assert cache.lengths == (3, 2)


@torch.inference_mode()
def test_a_row_ends_when_rows_are_selected() -> None:
    rows = Rows(MODELS["rotary"], 3, paged=False)
    rows.assert_alike([[1, 2, 3], [4], []])
    kept = [rows.cache.row(i) for i in range(3)]
    rows.cache.select([0, 1, 2])
    assert [row.length for row in kept] == [3, 1, 0]  # nothing has moved
    rows.cache.select([1, 0])
    for i, row in enumerate(kept):
        with pytest.raises(ModelError, match=rf"(?s)the cache of row {i} has other.*row anew"):
            row.length  # noqa: B018
        with pytest.raises(ModelError, match="has other rows"):
            MODELS["rotary"].hidden_states(torch.tensor([[5]]), cache=row)
        with pytest.raises(ModelError, match="has other rows"):
            row.truncate(0)
    assert rows.cache.lengths == (1, 3)
    assert rows.cache.row(1).length == 3


def test_a_row_has_no_rows() -> None:
    cache = RaggedCache(LAYOUT, 2, 4)
    with pytest.raises(ModelError, match=r"(?s)rows \[0, 0\] of a cache that is itself a row"):
        cache.row(1).select([0, 0])
    for index in (-1, 2):
        with pytest.raises(ModelError, match=f"row {index}, and the cache has 2 rows"):
            cache.row(index)


def test_errors() -> None:
    cache = RaggedCache(LAYOUT, 2, 4)
    cache.append(0, states(2, 2), states(2, 2))
    cache.advance(2)
    with pytest.raises(ModelError, match="the cache holds 4 positions, and a row would have 5"):
        cache.append(0, states(2, 3), states(2, 3))
    with pytest.raises(ModelError, match="the cache has 2 rows, the ids 3"):
        cache.append(0, states(3, 1), states(3, 1))
    with pytest.raises(ModelError, match="cannot truncate row 1 to 3 positions: it holds 2"):
        cache.truncate([2, 3])
    with pytest.raises(ModelError, match="3 counts, and the cache has 2 rows"):
        cache.expect([1, 1, 1])
    cache.expect([2, 1])
    with pytest.raises(ModelError, match="2 ids of a row were announced, and 1 came"):
        cache.positions(1)


def test_blocks_that_are_full_are_not_written_beyond() -> None:
    pool = MODELS["learned"].new_block_pool(4, block_size=2)
    cache = pool.rows([[1], [2, 3]], [1, 0])
    with pytest.raises(ModelError, match="the blocks of row 0 hold 2 positions; 1 are taken and 2"):
        MODELS["learned"].hidden_states(torch.tensor([[1, 2], [1, 2]]), cache=cache)
    # 2 layers x keys and values x 8 positions x 4 heads x 4 features x 4 bytes.
    assert pool.n_bytes == 2 * 2 * 8 * 4 * 4 * 4
