"""One step of a Transformer: some new positions through all layers, by one thread of several.

The threads run the same function side by side, each takes its share of the outputs of a linear map,
or of the heads, and they meet wherever one reads what another wrote.
"""

from __future__ import annotations

import math
from typing import Any

from stemma.inference.kernels import tiles
from stemma.inference.kernels.arithmetic import activate, linear, norm, products, softmax
from stemma.inference.kernels.layout import (
    BEFORE_ATTENTION,
    BEFORE_FEEDFORWARD,
    BFLOAT16,
    DOWN,
    FINAL,
    GATE,
    KEY,
    N_OUT,
    OF_KEYS,
    OF_QUERIES,
    OUT,
    QUERY,
    UP,
    VALUE,
)
from stemma.inference.kernels.machine import (
    address_of,
    meet,
    read_float,
    share,
    write_bfloat16,
    write_float,
)
from stemma.tokenizers.kernels import inlined_kernel, lean_kernel


@lean_kernel
def step(
    thread: int,
    n_threads: int,
    meeting: Any,
    plan: Any,
    linears: Any,
    norms: Any,
    rows: Any,
    memory: Any,
) -> None:
    """Run all layers on ``memory.x``, and leave there what the head reads.

    Args:
        thread: the number of this thread.
        n_threads: how many there are.
        meeting: see `machine.meet`.
        plan: numbers of the model, `layout.Plan`.
        linears: int64 ``[n_layers, layout.N_LINEAR, layout.N_FIELDS]``.
        norms: int64 ``[n_layers + 1, layout.N_NORMS, 2]``; behind the layers stands the final norm.
        rows: `layout.Rows`.
        memory: `layout.Memory`.
    """
    for layer in range(plan.n_layers):
        maps = linears[layer]
        _project(thread, n_threads, plan, maps, norms[layer], rows, memory)
        if not meet(meeting, n_threads):
            return
        _remember(thread, n_threads, plan, norms[layer], rows, memory, layer)
        if not meet(meeting, n_threads):
            return
        _attend(thread, n_threads, plan, rows, memory, layer)
        if not meet(meeting, n_threads):
            return
        _add(thread, n_threads, plan, maps[OUT], memory.attended, rows, memory)
        if not meet(meeting, n_threads):
            return
        _widen(thread, n_threads, plan, maps, norms[layer], rows, memory)
        if not meet(meeting, n_threads):
            return
        _add(thread, n_threads, plan, maps[DOWN], memory.hidden, rows, memory)
        if not meet(meeting, n_threads):
            return
    last = norms[plan.n_layers, FINAL]
    for r in range(thread, rows.positions.size, n_threads):
        x = address_of(memory.x) + 4 * r * plan.d_model
        norm(x, x, plan.d_model, last[0], last[1], plan.norm_is_rms, plan.norm_eps)


@inlined_kernel
def _norm_rows(thread: int, plan: Any, gains: Any, n_rows: int, memory: Any) -> int:
    """The normed residual stream, each thread its own; the address."""
    x, normed = address_of(memory.x), address_of(memory.normed[thread])
    size = 4 * plan.d_model
    for r in range(n_rows):
        norm(
            x + r * size,
            normed + r * size,
            plan.d_model,
            gains[0],
            gains[1],
            plan.norm_is_rms,
            plan.norm_eps,
        )
    return normed


@lean_kernel
def _project(
    thread: int, n_threads: int, plan: Any, maps: Any, norms: Any, rows: Any, memory: Any
) -> None:
    """Queries, keys and values of the new positions."""
    n_rows = rows.positions.size
    normed = _norm_rows(thread, plan, norms[BEFORE_ATTENTION], n_rows, memory)
    first, last = share(maps[QUERY, N_OUT], 4, thread, n_threads)
    out, stride = address_of(memory.q), 4 * maps[QUERY, N_OUT]
    linear(maps[QUERY], normed, n_rows, out, stride, first, last)
    first, last = share(maps[KEY, N_OUT], 4, thread, n_threads)
    out, stride = address_of(memory.k), 4 * maps[KEY, N_OUT]
    linear(maps[KEY], normed, n_rows, out, stride, first, last)
    out = address_of(memory.v)
    linear(maps[VALUE], normed, n_rows, out, stride, first, last)


@inlined_kernel
def _prepare(head: int, plan: Any, gains: Any, rows: Any, r: int) -> None:
    """Norm and rotate a query or a key where it lies."""
    size = plan.d_head
    if gains[0] != 0:
        norm(head, head, size, gains[0], gains[1], plan.qk_norm_is_rms, plan.qk_norm_eps)
    if plan.rotated:
        cos, sin = address_of(rows.cos) + 4 * size * r, address_of(rows.sin) + 4 * size * r
        half = size // 2
        for i in range(half):
            first, second = read_float(head, i), read_float(head, i + half)
            write_float(head, i, first * read_float(cos, i) + second * read_float(sin, i))
            turned = second * read_float(cos, i + half) + first * read_float(sin, i + half)
            write_float(head, i + half, turned)


@lean_kernel
def _remember(
    thread: int, n_threads: int, plan: Any, norms: Any, rows: Any, memory: Any, layer: int
) -> None:
    """Norm and rotate queries and keys; write keys and values to the cache."""
    n_rows, size, length = rows.positions.size, plan.d_head, memory.strides[2]
    first, last = share(n_rows * plan.n_heads, 1, thread, n_threads)
    for unit in range(first, last):
        head = address_of(memory.q) + 4 * size * unit
        _prepare(head, plan, norms[OF_QUERIES], rows, unit // plan.n_heads)
    first, last = share(n_rows * plan.n_kv_heads, 1, thread, n_threads)
    for unit in range(first, last):
        r, head = unit // plan.n_kv_heads, unit % plan.n_kv_heads
        key, value = address_of(memory.k) + 4 * size * unit, address_of(memory.v) + 4 * size * unit
        _prepare(key, plan, norms[OF_KEYS], rows, r)
        run, behind = rows.positions[r] // length, rows.positions[r] % length
        place = rows.runs[r, run] + head * memory.strides[0] + behind * memory.strides[1]
        _copy(key, memory.cache[layer, 0] + place, size, plan.cache_kind)
        _copy(value, memory.cache[layer, 1] + place, size, plan.cache_kind)


@inlined_kernel
def _copy(source: int, target: int, n: int, kind: int) -> None:
    if kind == BFLOAT16:
        for i in range(n):
            write_bfloat16(target, i, read_float(source, i))
    else:
        for i in range(n):
            write_float(target, i, read_float(source, i))


@lean_kernel
def _attend(thread: int, n_threads: int, plan: Any, rows: Any, memory: Any, layer: int) -> None:
    """What each head of each row gathers from the cache."""
    n_rows, size = rows.positions.size, plan.d_head
    scores = address_of(memory.scores[thread])
    scale = 1 / math.sqrt(size)
    stride, length = memory.strides[1], memory.strides[2]
    group = plan.n_heads // plan.n_kv_heads
    first, last = share(n_rows * plan.n_heads, 1, thread, n_threads)
    for unit in range(first, last):
        r, head = unit // plan.n_heads, unit % plan.n_heads // group
        n_keys = rows.positions[r] + 1
        query = address_of(memory.q) + 4 * size * unit
        for start in range(0, n_keys, length):
            keys = memory.cache[layer, 0] + rows.runs[r, start // length] + head * memory.strides[0]
            n, out = min(length, n_keys - start), scores + 4 * start
            products(plan.cache_kind, keys, stride, 0, query, 0, 1, size, out, 0, 0, n)
        softmax(scores, n_keys, scale)
        out = address_of(memory.attended) + 4 * size * unit
        for i in range(size):
            write_float(out, i, 0.0)
        for start in range(0, n_keys, length):
            values = (
                memory.cache[layer, 1] + rows.runs[r, start // length] + head * memory.strides[0]
            )
            weights, n = scores + 4 * start, min(length, n_keys - start)
            _mix(plan.cache_kind, values, stride, weights, n, out, size)


@inlined_kernel
def _mix(kind: int, values: int, stride: int, weights: int, n: int, out: int, size: int) -> None:
    """Add the mean of some values, by their weights, to what is there."""
    for i in range(0, size, tiles.MIXED):
        if kind == BFLOAT16:
            tiles.bfloat_mixer(values + 2 * i, stride, weights, n, out + 4 * i, size - i)
        else:
            tiles.float_mixer(values + 4 * i, stride, weights, n, out + 4 * i, size - i)


@lean_kernel
def _add(
    thread: int, n_threads: int, plan: Any, table: Any, source: Any, rows: Any, memory: Any
) -> None:
    """A linear map back to the residual stream, to which it is added."""
    n_rows, size = rows.positions.size, 4 * plan.d_model
    first, last = share(plan.d_model, 4, thread, n_threads)
    # Its own part of what it normed, which nobody reads any more, has room for the outputs.
    out, x = address_of(memory.normed[thread]), address_of(memory.x)
    linear(table, address_of(source), n_rows, out, size, first, last)
    for r in range(n_rows):
        for i in range(first, last):
            place = r * plan.d_model + i
            before = read_float(x, place) if plan.residual else 0
            write_float(x, place, before + read_float(out, place))


@lean_kernel
def _widen(
    thread: int, n_threads: int, plan: Any, maps: Any, norms: Any, rows: Any, memory: Any
) -> None:
    """The features within the feed-forward layer: a(W x), or a(W_g x) times W x."""
    n_rows, size = rows.positions.size, 4 * plan.d_ff
    normed = _norm_rows(thread, plan, norms[BEFORE_FEEDFORWARD], n_rows, memory)
    first, last = share(plan.d_ff, 4, thread, n_threads)
    hidden, gated = address_of(memory.hidden), address_of(memory.gated)
    linear(maps[GATE if plan.gated else UP], normed, n_rows, hidden, size, first, last)
    for r in range(n_rows):
        activate(hidden + r * size + 4 * first, last - first, plan.activation)
    if plan.gated:
        linear(maps[UP], normed, n_rows, gated, size, first, last)
        for r in range(n_rows):
            for i in range(r * plan.d_ff + first, r * plan.d_ff + last):
                write_float(hidden, i, read_float(hidden, i) * read_float(gated, i))


@lean_kernel
def apply_linear(thread: int, n_threads: int, meeting: Any, table: Any, x: Any, out: Any) -> None:
    """One linear map of activations ``x [rows, n_in]``, such as a head: ``out [rows, n_out]``."""
    first, last = share(table[N_OUT], 4, thread, n_threads)
    size = 4 * table[N_OUT]
    linear(table, address_of(x), x.shape[0], address_of(out), size, first, last)
