"""Machine code for Unigram training; the twins are in `stemma.tokenizers.unigram.lattice`."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel

_SMALL = 1e-50
_LARGE = 1e50
_NARROW = 650.0
"""How far apart, as logarithms, the sums may lie that a double holds side by side."""


@kernel
def match(order: Any, left: Any, right: Any, first: Any) -> Any:
    """The edges of a lattice, from runs of suffixes: piece k stands at ``order[left[k]:right[k]]``.

    Args:
        order: suffix array, int64[n].
        left: of each piece, rising; of equals the shorter piece first.
        right: of each piece.
        first: see `Lattice`; the edges are ``first[n]``.
    """
    edges = np.empty(first[-1], np.int32)
    pieces = len(left)
    inside = np.empty(pieces, np.int32)  # runs that hold rank i
    top = 0
    k = 0
    for i in range(len(order)):
        while top > 0 and right[inside[top - 1]] <= i:
            top -= 1
        while k < pieces and left[k] == i:
            inside[top] = k
            top += 1
            k += 1
        at = first[order[i]]
        for t in range(top):
            edges[at + t] = inside[t]
    return edges


@kernel
def expected_counts(
    starts: Any, weights: Any, first: Any, edges: Any, lengths: Any, log_p: Any, p: Any
) -> Any:
    """Expected counts of all pieces, and the log-likelihood.

    The sums are taken of probabilities that are scaled up wherever they become small; only where
    pieces are so long and rare that this cannot work are they taken of logarithms, in several times
    the time.

    Args:
        starts: of the words to go through; these and the next three as in `Lattice`.
        weights: of these words.
        first: of all places.
        edges: all of them.
        lengths: of the pieces.
        log_p: of the pieces.
        p: its exponential.
    """
    counts = np.zeros(len(log_p))
    size = 0
    for w in range(len(weights)):
        size = max(size, starts[w + 1] - starts[w])
    forward = np.empty(size)
    backward = np.empty(size)
    shifts = np.empty(size, np.int64)
    longest = lengths.max()
    narrow = -log_p.min() * longest < _NARROW
    total = 0.0
    for w in range(len(weights)):
        start = starts[w]
        size = starts[w + 1] - 1 - start
        if narrow:
            shift = _forward(start, size, first, edges, lengths, longest, p, forward, shifts)
            total += weights[w] * (np.log(forward[size]) - shift * np.log(_LARGE))
            backward[size] = weights[w] / forward[size]
            _backward(start, size, first, edges, lengths, p, forward, shifts, backward, counts)
        else:
            total += weights[w] * _add_with_logarithms(
                start, size, weights[w], first, edges, lengths, log_p, forward, backward, counts
            )
    return counts, total


@lean_kernel
def _forward(
    start: Any,
    size: Any,
    first: Any,
    edges: Any,
    lengths: Any,
    longest: Any,
    p: Any,
    forward: Any,
    shifts: Any,
) -> Any:
    """Forward sums times ``_LARGE ** shifts``; returns the last shift."""
    forward[0] = 1.0
    forward[1 : size + 1] = 0.0
    shift = 0
    for i in range(size):
        if forward[i] < _SMALL:
            shift += 1
            for j in range(i, min(i + longest, size) + 1):
                forward[j] *= _LARGE
        shifts[i] = shift
        here = forward[i]
        for e in range(first[start + i], first[start + i + 1]):
            k = edges[e]
            forward[i + lengths[k]] += here * p[k]
    shifts[size] = shift
    return shift


@lean_kernel
def _backward(
    start: Any,
    size: Any,
    first: Any,
    edges: Any,
    lengths: Any,
    p: Any,
    forward: Any,
    shifts: Any,
    backward: Any,
    counts: Any,
) -> Any:
    """Backward sums over that of the word, such that ``forward * backward`` is a count."""
    for i in range(size - 1, -1, -1):
        here = forward[i]
        shift = shifts[i]
        total = 0.0
        for e in range(first[start + i], first[start + i + 1]):
            k = edges[e]
            j = i + lengths[k]
            onward = p[k] * backward[j]
            if shifts[j] != shift:
                onward *= _LARGE ** (shifts[j] - shift)
            total += onward
            counts[k] += here * onward
        backward[i] = total


@lean_kernel
def _add_with_logarithms(
    start: Any,
    size: Any,
    weight: Any,
    first: Any,
    edges: Any,
    lengths: Any,
    log_p: Any,
    forward: Any,
    backward: Any,
    counts: Any,
) -> Any:
    """Both for one word, with logarithms; returns that of its probability."""
    forward[0] = 0.0
    forward[1 : size + 1] = -np.inf
    for i in range(size):
        for e in range(first[start + i], first[start + i + 1]):
            k = edges[e]
            j = i + lengths[k]
            forward[j] = _log_add(forward[j], forward[i] + log_p[k])
    whole = forward[size]
    backward[:size] = -np.inf
    backward[size] = 0.0
    for i in range(size - 1, -1, -1):
        for e in range(first[start + i], first[start + i + 1]):
            k = edges[e]
            onward = log_p[k] + backward[i + lengths[k]]
            backward[i] = _log_add(backward[i], onward)
            counts[k] += weight * np.exp(forward[i] + onward - whole)
    return whole


@inlined_kernel
def _log_add(a: Any, b: Any) -> Any:
    high = max(a, b)
    low = min(a, b)
    return high if low == -np.inf else high + np.log1p(np.exp(low - high))


@kernel
def losses(first: Any, edges: Any, where: Any, lengths: Any, log_p: Any, counts: Any) -> Any:
    """How much log-likelihood is lost without each piece; infinite where others cannot spell it."""
    result = np.full(len(counts), np.inf)
    total = counts.sum()
    longest = lengths.max()
    best = np.empty(longest + 1)
    last = np.empty(longest + 1, np.int32)
    for x in range(len(counts)):
        start = where[x]
        size = lengths[x]
        best[0] = 0.0
        best[1 : size + 1] = -np.inf
        for i in range(size):
            for e in range(first[start + i], first[start + i + 1]):
                k = edges[e]
                j = i + lengths[k]
                if j <= size and k != x and best[i] + log_p[k] > best[j]:
                    best[j] = best[i] + log_p[k]
                    last[j] = k
        if best[size] > -np.inf:
            result[x] = _loss(last, size, lengths, counts, total, counts[x])
    return result


@inlined_kernel
def _loss(last: Any, size: Any, lengths: Any, counts: Any, total: Any, f: Any) -> Any:
    """The loss of a piece that occurs ``f`` times; ``last`` leads back through what replaces it."""
    if f == 0.0:
        return 0.0
    others = 0
    j = size
    while j > 0:
        others += 1
        j -= lengths[last[j]]
    after = total + (others - 1) * f
    gone = np.log(f / total)
    j = size
    while j > 0:
        gone -= np.log((counts[last[j]] + f) / after)
        j -= lengths[last[j]]
    return f * gone
