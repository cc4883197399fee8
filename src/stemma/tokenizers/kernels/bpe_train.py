"""Learning merges at scale: the fast form of `bpe.train.PairTable`.

A merge looks at the places of its pair alone. What it changes is first summed by neighbour, then
written to the table of pairs, because most of its places have one of a few neighbours.

No array grows here. `learn` returns before a merge for which there is no room, and goes on when it
is called again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import lean_kernel
from stemma.tokenizers.kernels.memory import prefetch
from stemma.tokenizers.kernels.training_corpus import (
    INSIDE,
    NOTHING,
    Corpus,
    count_at,
    find_spelling,
)
from stemma.tokenizers.kernels.training_pairs import (
    COUNT,
    FILLED,
    FLOOR,
    HEAPED,
    KEY,
    LENGTH,
    MERGES,
    NEEDED,
    START,
    TOKENS,
    USED,
    Pairs,
    commonest,
    drop_first,
    fill_heap,
    find,
    find_or_add,
    home,
    lower_floor,
    pair_key,
    pair_of,
    push,
)

DONE, PAUSED, MORE_TABLE, MORE_PLACES, MORE_HEAP, MORE_EVENTS = range(6)
"""Why `learn` has returned."""

AFTER, BEFORE = np.int64(0), np.int64(1)  # numba would compile anew for each plain number
SEEN, WEIGHT, SLOT = range(3)

_AHEAD = 16
"""Places lie anywhere in memory: they are asked for so long before they are needed."""


@lean_kernel
def count_pairs(corpus: Corpus, pairs: Pairs, p: Any) -> Any:
    """Count the pairs of the first tokens from place ``p`` on.

    Returns:
        The place reached: the end, or where the table has to grow.
    """
    cells, lengths, table, state = corpus.cells, corpus.lengths, pairs.table, pairs.state
    run_at, run_ends, run_counts = corpus.run_at, corpus.run_ends, corpus.run_counts
    while p < cells.size - 1:
        left = cells[p]
        if left == NOTHING:
            p += 1
            continue
        q = p + lengths[left]
        if cells[q] != NOTHING:
            if 2 * state[USED] >= table.shape[0]:
                break
            slot = find_or_add(table, state, pair_key(left, cells[q]))
            table[slot, COUNT] += count_at(run_at, run_ends, run_counts, p)
            table[slot, LENGTH] += 1
        p = q
    return p


@lean_kernel
def list_places(corpus: Corpus, pairs: Pairs) -> None:
    """List the places of the first pairs, which have been counted."""
    cells, lengths, table, state = corpus.cells, corpus.lengths, pairs.table, pairs.state
    for slot in range(table.shape[0]):
        table[slot, START] = state[FILLED]
        state[FILLED] += table[slot, LENGTH]
        if table[slot, KEY]:
            left, right = pair_of(table[slot, KEY])
            pairs.listed[left] += table[slot, LENGTH]
            pairs.listed[right] += table[slot, LENGTH]
        table[slot, LENGTH] = 0
    p = np.int64(0)
    while p < cells.size - 1:
        left = cells[p]
        if left == NOTHING:
            p += 1
            continue
        q = p + lengths[left]
        if cells[q] != NOTHING:
            slot = find(table, pair_key(left, cells[q]))
            pairs.places[table[slot, START] + table[slot, LENGTH]] = p
            table[slot, LENGTH] += 1
        p = q


@lean_kernel
def learn(corpus: Corpus, pairs: Pairs, merges: Any, goal: Any, least: Any, work: Any) -> Any:
    """Learn merges.

    Args:
        corpus: the words.
        pairs: what is known of their pairs.
        merges: left id, right id and the id that they make, int32 of shape (m, 3); to be filled.
        goal: stop when there are so many tokens.
        least: stop when no pair is so common.
        work: pause when so many places have been looked at.

    Returns:
        `DONE`, `PAUSED`, or which array has to grow.
    """
    state = pairs.state
    state[MERGES] = 0
    while state[TOKENS] < goal:
        if work <= 0 or state[MERGES] == merges.shape[0]:
            return PAUSED
        slot = commonest(pairs)
        if slot == NOTHING:
            n = lower_floor(pairs, least)
            if n == 0:
                break
            if n > pairs.heap.shape[0]:
                state[NEEDED] = n
                return MORE_HEAP
            fill_heap(pairs)
            continue
        known = known_token(corpus, pairs, slot)
        lacking = lacks_room(corpus, pairs, slot, known)
        if lacking:
            return lacking
        work -= pairs.table[slot, LENGTH] + 16
        new = known if known != NOTHING else add_token(corpus, pairs, slot)
        write_merge(pairs, slot, new, merges)
        merge(corpus, pairs, slot, new)
    return DONE


@lean_kernel
def lacks_room(corpus: Corpus, pairs: Pairs, slot: Any, known: Any) -> Any:
    """Which array is too small for a merge, or 0.

    A merge makes two pairs at most at each of its places. A pair that exists already, because its
    token was made before, has its list of places written anew.
    """
    state = pairs.state
    n = pairs.table[slot, LENGTH]
    n_pairs = 2 * min(n, state[TOKENS])
    n_places = state[FILLED] + (2 * n if known == NOTHING else 4 * n + pairs.listed[known])
    if n > pairs.events.shape[1]:
        state[NEEDED] = n
        return MORE_EVENTS
    if 3 * (state[USED] + n_pairs) > 2 * pairs.table.shape[0]:
        state[NEEDED] = n_pairs
        return MORE_TABLE
    if n_places > pairs.places.size:
        state[NEEDED] = n_places
        return MORE_PLACES
    if state[HEAPED] + n_pairs > pairs.heap.shape[0]:
        state[NEEDED] = state[HEAPED] + n_pairs
        return MORE_HEAP
    return 0


@lean_kernel
def known_token(corpus: Corpus, pairs: Pairs, slot: Any) -> Any:
    """The id of the token that is spelled like a pair, or `NOTHING`."""
    if corpus.text.size == 0:
        return NOTHING
    left, right = pair_of(pairs.table[slot, KEY])
    n = np.int64(corpus.lengths[left] + corpus.lengths[right])
    found = find_spelling(corpus, first_place(corpus, pairs, slot), n)
    return np.int64(corpus.by_spelling[found])


@lean_kernel
def add_token(corpus: Corpus, pairs: Pairs, slot: Any) -> Any:
    """Make a token of a pair."""
    left, right = pair_of(pairs.table[slot, KEY])
    at = first_place(corpus, pairs, slot)
    n = np.int64(corpus.lengths[left] + corpus.lengths[right])
    new = pairs.state[TOKENS]
    pairs.state[TOKENS] += 1
    corpus.spelled_at[new] = at
    corpus.lengths[new] = n
    if corpus.text.size:
        corpus.by_spelling[find_spelling(corpus, at, n)] = new
    return new


@lean_kernel
def first_place(corpus: Corpus, pairs: Pairs, slot: Any) -> Any:
    """The first place where a pair stands."""
    cells, places = corpus.cells, pairs.places
    left, right = pair_of(pairs.table[slot, KEY])
    n_left = corpus.lengths[left]
    i = pairs.table[slot, START]
    while cells[places[i]] != left or cells[places[i] + n_left] != right:
        i += 1
    return np.int64(places[i])


@lean_kernel
def write_merge(pairs: Pairs, slot: Any, new: Any, merges: Any) -> None:
    """Write down the merge of a slot's pair, and take the pair out of the heap."""
    heap, state = pairs.heap, pairs.state
    row = state[MERGES]
    merges[row, 0], merges[row, 1] = pair_of(pairs.table[slot, KEY])
    merges[row, 2] = new
    state[MERGES] += 1
    drop_first(heap, state)


@lean_kernel
def merge(corpus: Corpus, pairs: Pairs, slot: Any, new: Any) -> None:
    """Replace the pair of a slot by ``new`` everywhere."""
    table, heap, state = pairs.table, pairs.heap, pairs.state
    by_id, ids, n = pairs.by_id, pairs.ids, pairs.n_changes
    left, right = pair_of(table[slot, KEY])
    replace(corpus, pairs, slot, new)
    for side in range(2):
        record(corpus, pairs, side, left, right, new)
    table[slot, COUNT] = 0
    for side in range(2):
        for k in range(n[side, 0]):
            id_ = ids[side, k]
            changed = by_id[side, id_, SLOT]
            if table[changed, COUNT] >= state[FLOOR]:
                push(heap, state, table[changed, COUNT], table[changed, KEY])
            by_id[side, id_, SEEN] = 0
            by_id[side, id_, WEIGHT] = 0
        n[side, 0], n[side, 1] = 0, 0


@lean_kernel
def replace(corpus: Corpus, pairs: Pairs, slot: Any, new: Any) -> None:
    """Replace the pair of a slot in the cells, from left to right, and note its neighbours."""
    cells, lengths, places = corpus.cells, corpus.lengths, pairs.places
    by_id, ids, events, n_changes = pairs.by_id, pairs.ids, pairs.events, pairs.n_changes
    run_at, run_ends, run_counts = corpus.run_at, corpus.run_ends, corpus.run_counts
    left, right = pair_of(pairs.table[slot, KEY])
    begin = pairs.table[slot, START]
    end = begin + pairs.table[slot, LENGTH]
    for i in range(begin, end):
        prefetch(cells, places[min(i + _AHEAD, end - 1)])
        p = np.int64(places[i])
        q = p + lengths[left]
        if cells[p] != left or cells[q] != right:
            continue
        beyond = q + lengths[right]
        cells[q] = INSIDE
        cells[p] = new
        cells[beyond - 1] = new
        weight = count_at(run_at, run_ends, run_counts, p)
        id_ = cells[p - 1]
        if id_ != NOTHING:
            note(by_id, ids, events, n_changes, BEFORE, id_, p - lengths[id_], weight)
        id_ = cells[beyond]
        if id_ != NOTHING:
            note(by_id, ids, events, n_changes, AFTER, id_, p, weight)


@lean_kernel
def note(
    by_id: Any, ids: Any, events: Any, n: Any, side: Any, id_: Any, p: Any, weight: Any
) -> None:
    """Note that the neighbour ``id_`` forms a new pair at place ``p``; the arrays as in `Pairs`."""
    ids[side, n[side, 0]] = id_
    n[side, 0] += by_id[side, id_, SEEN] == 0
    by_id[side, id_, SEEN] += 1
    by_id[side, id_, WEIGHT] += weight
    events[side, n[side, 1], 0], events[side, n[side, 1], 1] = id_, p
    n[side, 1] += 1


@lean_kernel
def record(corpus: Corpus, pairs: Pairs, side: Any, left: Any, right: Any, new: Any) -> None:
    """Put the changes on one side into the table and the lists of places.

    Args:
        corpus: the words.
        pairs: have room.
        side: of the merged pair.
        left: the merged pair; next to it pairs with one of its tokens are lost ...
        right: ... the right one after it, the left one before it ...
        new: ... and such with this one gained.
    """
    table, places, state = pairs.table, pairs.places, pairs.state
    by_id, ids, events, n = pairs.by_id, pairs.ids, pairs.events, pairs.n_changes
    listed = pairs.listed
    begin = state[FILLED]
    for k in range(n[side, 0]):
        id_ = ids[side, k]
        lost = pair_key(id_, left) if side == BEFORE else pair_key(right, id_)
        gained = pair_key(id_, new) if side == BEFORE else pair_key(new, id_)
        prefetch(table, 4 * home(table, lost))
        prefetch(table, 4 * home(table, gained))
    for k in range(n[side, 0]):
        id_ = ids[side, k]
        lost = pair_key(id_, left) if side == BEFORE else pair_key(right, id_)
        gained = pair_key(id_, new) if side == BEFORE else pair_key(new, id_)
        table[find(table, lost), COUNT] -= by_id[side, id_, WEIGHT]
        slot = find_or_add(table, state, gained)
        table[slot, COUNT] += by_id[side, id_, WEIGHT]
        by_id[side, id_, SLOT] = slot
        listed[id_] += by_id[side, id_, SEEN]
        state[FILLED] += by_id[side, id_, SEEN]
        by_id[side, id_, SEEN] = state[FILLED] - by_id[side, id_, SEEN]
    listed[new] += n[side, 1]
    for k in range(n[side, 1]):
        id_ = events[side, k, 0]
        places[by_id[side, id_, SEEN]] = events[side, k, 1]
        by_id[side, id_, SEEN] += 1
    for k in range(n[side, 0]):
        id_ = ids[side, k]
        slot, end = by_id[side, id_, SLOT], by_id[side, id_, SEEN]
        if table[slot, LENGTH]:
            add_list(table, places, state, slot, begin, end)
        else:
            table[slot, START], table[slot, LENGTH] = begin, end - begin
        begin = end


@lean_kernel
def add_list(table: Any, places: Any, state: Any, slot: Any, begin: Any, end: Any) -> None:
    """Join the places at ``begin:end`` with those that a pair has; the arrays as in `Pairs`."""
    old, old_end = table[slot, START], table[slot, START] + table[slot, LENGTH]
    table[slot, START], table[slot, LENGTH] = state[FILLED], old_end - old + end - begin
    for at in range(state[FILLED], state[FILLED] + table[slot, LENGTH]):
        if begin == end or (old < old_end and places[old] < places[begin]):
            places[at] = places[old]
            old += 1
        else:
            places[at] = places[begin]
            begin += 1
    state[FILLED] += table[slot, LENGTH]
