"""How a model is told to the kernels: tables of addresses and a few numbers.

They are plain arrays, since that is what compiled code takes; `stemma.inference.engine.tables`
fills them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""Kinds of weights."""

QUERY, KEY, VALUE, OUT, GATE, UP, DOWN, N_LINEAR = range(8)
"""The linear maps of a layer."""

WEIGHT, KIND, SCALE, BIAS, N_OUT, N_IN, N_FIELDS = range(7)
"""What is said of each: three addresses of numbers (0: there are none), and its shape."""

BEFORE_ATTENTION, BEFORE_FEEDFORWARD, OF_QUERIES, OF_KEYS, N_NORMS = range(5)
"""The norms of a layer; each has the addresses of a gain and of a bias."""

FINAL = 0
"""The one norm behind the layers."""

GELU, GELU_TANH, SILU, RELU, RELU2, SIGMOID, IDENTITY = range(7)
"""Nonlinearities."""


class Plan(NamedTuple):
    """The numbers of a model; the norms' are 1 for RMSNorm and 0 for LayerNorm."""

    n_layers: int
    d_model: int
    d_ff: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    activation: int
    gated: int
    rotated: int
    cache_kind: int
    norm_is_rms: int
    norm_eps: float
    qk_norm_is_rms: int
    qk_norm_eps: float
    residual: int


class Rows(NamedTuple):
    """What a step computes: some new positions, each at the end of what its text has so far.

    Attributes:
        positions: of each row, int64; it looks at all before it and at itself.
        runs: int64 ``[rows, n]``: where in a layer's part of the cache the row's text lies, in
            bytes: its first positions behind the first of these numbers, as many as a run has,
            the next behind the second.
        cos: cosines of its angles, float32 ``[rows, d_head]``.
        sin: sines, the first half negated.
    """

    positions: Any
    runs: Any
    cos: Any
    sin: Any


class Memory(NamedTuple):
    """Where a step writes, float32 with one row per row; and the addresses of the cache.

    Attributes:
        x: the residual stream ``[rows, d_model]``.
        normed: one for each thread ``[threads, rows, d_model]``.
        q: ``[rows, n_heads * d_head]``; k and v accordingly.
        attended: ``[rows, n_heads * d_head]``.
        hidden: features within the feed-forward layer ``[rows, d_ff]``.
        gated: what they are multiplied by.
        scores: one row of attention weights for each thread ``[threads, capacity]``.
        cache: int64 ``[n_layers, 2]``: where the keys and the values of a layer begin.
        strides: int64 ``[3]``: bytes from a head to the next, from a position to the next; and how
            many positions a run has.
    """

    x: Any
    normed: Any
    q: Any
    k: Any
    v: Any
    attended: Any
    hidden: Any
    gated: Any
    scores: Any
    cache: Any
    strides: Any
