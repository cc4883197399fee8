"""Learning merges with the kernels: what stands around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.train import Sequences
    from stemma.tokenizers.kernels.training_corpus import Corpus
    from stemma.tokenizers.kernels.training_pairs import Pairs

MERGES_AT_ONCE = 1 << 12
PLACES_AT_ONCE = 1 << 20
"""After so many the kernel pauses, so that progress is told and Ctrl-C is heard."""

ROOM_A_PLACE = 2
FIRST_ROOM = 1 << 10
"""Of the arrays that grow."""

MOST_PLACES = (1 << 31) - 2
"""Places are numbers of 32 bits."""


def learn_fast(
    sequences: Sequences,
    spellings: Sequence[bytes] | int,
    wanted: int,
    least: int,
    tell: Callable[[int], object],
) -> NDArray[np.int32]:
    """What `bpe.train.learn_readably` does."""
    from stemma.tokenizers.kernels import bpe_train, training_pairs

    n_first = spellings if isinstance(spellings, int) else len(spellings)
    goal = n_first + wanted
    corpus = _corpus(sequences, spellings, n_first, goal)
    pairs = _first_pairs(corpus, n_first, goal)
    merges = np.empty((MERGES_AT_ONCE, 3), np.int32)
    done = [merges[:0]]
    while True:
        stopped = bpe_train.learn(corpus, pairs, merges, goal, least, PLACES_AT_ONCE)
        done.append(merges[: pairs.state[training_pairs.MERGES]].copy())
        tell(int(pairs.state[training_pairs.TOKENS]) - n_first)
        if stopped == bpe_train.DONE:
            return np.concatenate(done)
        if stopped != bpe_train.PAUSED:
            pairs = _with_room(pairs, stopped)


def _corpus(
    sequences: Sequences, spellings: Sequence[bytes] | int, n_first: int, goal: int
) -> Corpus:
    """The words laid out; without spellings, each id takes one cell."""
    from stemma.tokenizers.kernels import training_corpus as kernel

    spelled = [] if isinstance(spellings, int) else list(spellings)
    if b"" in spelled:
        raise TokenizerError(f"token {spelled.index(b'')} is spelled with no bytes")
    lengths = np.ones(goal, np.int32)
    lengths[: len(spelled)] = [len(spelling) for spelling in spelled]
    n_cells = 1 + len(sequences.ends)
    n_cells += int(np.bincount(sequences.ids, minlength=n_first) @ lengths[:n_first])
    if n_cells > MOST_PLACES:
        raise TokenizerError(
            f"the distinct words have {n_cells} places, more than {MOST_PLACES}",
            cure="Learn from less text.",
        )
    tail = np.frombuffer(b"".join(spelled), np.uint8)
    text = np.empty(n_cells + tail.size if spelled else 0, np.uint8)
    text[text.size - tail.size :] = tail
    counts = np.asarray(sequences.counts, np.int64)
    # Of 16 bits, so that sorting takes no time; what is cut off need not be in order.
    order = np.argsort(np.minimum(counts, 0xFFFF).astype(np.uint16), kind="stable")
    n_runs = 1 + np.count_nonzero(np.diff(counts[order]))
    corpus = kernel.Corpus(
        cells=np.empty(n_cells, np.int32),
        run_at=np.zeros(1 + ((n_cells - 1) >> kernel.BLOCK), np.int32),
        run_ends=np.full(n_runs, n_cells),
        run_counts=np.zeros(n_runs, np.int64),
        text=text,
        spelled_at=n_cells + np.cumsum(lengths) - lengths,
        lengths=lengths,
        by_spelling=np.full(1 << (2 * goal).bit_length(), kernel.NOTHING, np.int32),
    )
    # Of other types than these, numba would compile anew.
    ids, ends = np.asarray(sequences.ids, np.int32), np.asarray(sequences.ends, np.int64)
    kernel.lay_out(corpus, n_first, ids, ends, counts, order)
    return corpus


def _first_pairs(corpus: Corpus, n_first: int, goal: int) -> Pairs:
    from stemma.tokenizers.kernels import bpe_train, training_pairs

    n_cells = corpus.cells.size
    pairs = training_pairs.Pairs(
        table=np.zeros((FIRST_ROOM, 4), np.int64),
        places=np.empty(ROOM_A_PLACE * n_cells, np.int32),
        heap=np.empty((FIRST_ROOM, 2), np.int64),
        by_id=np.zeros((2, goal, 3), np.int64),
        ids=np.empty((2, goal + 1), np.int32),
        events=np.empty((2, FIRST_ROOM, 2), np.int32),
        n_changes=np.zeros((2, 2), np.int64),
        listed=np.zeros(goal, np.int64),
        state=np.zeros(7, np.int64),
    )
    pairs.state[training_pairs.TOKENS] = n_first
    done = 0
    while (done := bpe_train.count_pairs(corpus, pairs, done)) < n_cells - 1:
        pairs.state[training_pairs.NEEDED] = pairs.state[training_pairs.USED]
        pairs = _with_room(pairs, bpe_train.MORE_TABLE)
    bpe_train.list_places(corpus, pairs)
    return pairs


def _with_room(pairs: Pairs, kind: int) -> Pairs:
    """The same pairs with a larger array."""
    from stemma.tokenizers.kernels import bpe_train, training_pairs

    needed = int(pairs.state[training_pairs.NEEDED])
    if kind == bpe_train.MORE_TABLE:
        live = np.count_nonzero(pairs.table[:, training_pairs.COUNT] > 0)
        table = np.zeros((1 << int(2 * (live + needed)).bit_length(), 4), np.int64)
        training_pairs.move_pairs(pairs.table, table, pairs.state)
        return pairs._replace(table=table)
    if kind == bpe_train.MORE_PLACES:
        return pairs._replace(places=_larger(pairs.places, needed))
    if kind == bpe_train.MORE_HEAP:
        return pairs._replace(heap=_larger(pairs.heap, needed))
    return pairs._replace(events=np.empty((2, 2 * needed, 2), np.int32))


def _larger(array: NDArray[Any], n_rows: int) -> NDArray[Any]:
    new = np.empty((2 * n_rows, *array.shape[1:]), array.dtype)
    new[: len(array)] = array
    return new
