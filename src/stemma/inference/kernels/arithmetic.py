"""Linear maps, norms and nonlinearities on float32 activations that lie in memory by address."""

from __future__ import annotations

import math
from typing import Any

from numpy import float32, int32

from stemma.inference.kernels import tiles
from stemma.inference.kernels.layout import (
    BFLOAT16,
    BIAS,
    GELU,
    GELU_TANH,
    INT4,
    INT8,
    KIND,
    N_IN,
    RELU,
    RELU2,
    SCALE,
    SIGMOID,
    SILU,
    WEIGHT,
)
from stemma.inference.kernels.machine import float_of_bits, read_float, write_float
from stemma.tokenizers.kernels import any_order_kernel, inlined_kernel, lean_kernel

_OUTPUTS = tiles.OUTPUTS


@inlined_kernel
def _four_outputs(
    kind: int,
    rows: int,
    weights: int,
    stride: int,
    scales: int,
    x: int,
    x_stride: int,
    n_in: int,
    out: int,
    out_stride: int,
) -> None:
    if kind == BFLOAT16:
        if rows == 1:
            tiles.bfloat_1(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        elif rows == 2:
            tiles.bfloat_2(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        else:
            tiles.bfloat_4(weights, stride, scales, x, x_stride, n_in, out, out_stride)
    elif kind == INT8:
        if rows == 1:
            tiles.int8_1(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        elif rows == 2:
            tiles.int8_2(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        else:
            tiles.int8_4(weights, stride, scales, x, x_stride, n_in, out, out_stride)
    elif kind == INT4:
        if rows == 1:
            tiles.int4_1(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        elif rows == 2:
            tiles.int4_2(weights, stride, scales, x, x_stride, n_in, out, out_stride)
        else:
            tiles.int4_4(weights, stride, scales, x, x_stride, n_in, out, out_stride)
    elif rows == 1:
        tiles.float_1(weights, stride, scales, x, x_stride, n_in, out, out_stride)
    elif rows == 2:
        tiles.float_2(weights, stride, scales, x, x_stride, n_in, out, out_stride)
    else:
        tiles.float_4(weights, stride, scales, x, x_stride, n_in, out, out_stride)


@inlined_kernel
def _one_output(kind: int, weights: int, scales: int, x: int, n_in: int, out: int) -> None:
    if kind == BFLOAT16:
        tiles.bfloat_single(weights, 0, scales, x, 0, n_in, out, 0)
    elif kind == INT8:
        tiles.int8_single(weights, 0, scales, x, 0, n_in, out, 0)
    elif kind == INT4:
        tiles.int4_single(weights, 0, scales, x, 0, n_in, out, 0)
    else:
        tiles.float_single(weights, 0, scales, x, 0, n_in, out, 0)


@inlined_kernel
def row_size(kind: int, n: int) -> int:
    """Bytes of ``n`` weights."""
    if kind == INT4:
        return n // 2
    return n if kind == INT8 else 2 * n if kind == BFLOAT16 else 4 * n


@lean_kernel
def products(
    kind: int,
    weights: int,
    stride: int,
    scales: int,
    x: int,
    x_stride: int,
    n_rows: int,
    n_in: int,
    out: int,
    out_stride: int,
    first: int,
    last: int,
) -> None:
    """``out[r, o] = sum over i of weights[o, i] * x[r, i]`` for ``first <= o < last``.

    Each weight comes from memory once, whatever the number of rows. All but the numbers are
    addresses; strides are in bytes.
    """
    scale_stride = n_in // tiles.GROUP * 4 if kind == INT4 else 0
    o = first
    # One row of wide weights waits for memory alone, which gives most when it is read in order.
    at_once = n_rows > 1 or kind in (INT8, INT4)
    while at_once and o + _OUTPUTS <= last:
        r = 0
        while r < n_rows:
            rows = 4 if r + 4 <= n_rows else 2 if r + 2 <= n_rows else 1
            _four_outputs(
                kind,
                rows,
                weights + o * stride,
                stride,
                scales + o * scale_stride,
                x + r * x_stride,
                x_stride,
                n_in,
                out + r * out_stride + o * 4,
                out_stride,
            )
            r += rows
        o += _OUTPUTS
    while o < last:
        for r in range(n_rows):
            _one_output(
                kind,
                weights + o * stride,
                scales + o * scale_stride,
                x + r * x_stride,
                n_in,
                out + r * out_stride + o * 4,
            )
        o += 1


@lean_kernel
def linear(
    table: Any, x: int, n_rows: int, out: int, out_stride: int, first: int, last: int
) -> None:
    """Outputs ``first`` to ``last`` of a linear map, scaled and with their bias.

    Args:
        table: what `layout` says of the map, int64.
        x: address of the activations ``[n_rows, n_in]``.
        n_rows: rows.
        out: address of the outputs; a row's begin ``out_stride`` bytes after those of the last.
        out_stride: see above.
        first: the first output.
        last: the one behind the last.
    """
    kind, n_in = table[KIND], table[N_IN]
    stride = row_size(kind, n_in)
    products(
        kind,
        table[WEIGHT],
        stride,
        table[SCALE],
        x,
        4 * n_in,
        n_rows,
        n_in,
        out,
        out_stride,
        first,
        last,
    )
    for r in range(n_rows):
        row = out + r * out_stride
        if kind == INT8:
            for o in range(first, last):
                write_float(row, o, read_float(row, o) * read_float(table[SCALE], o))
        if table[BIAS] != 0:
            for o in range(first, last):
                write_float(row, o, read_float(row, o) + read_float(table[BIAS], o))


@any_order_kernel
def _sum(x: int, n: int) -> float:
    total = float32(0)
    for i in range(n):
        total += read_float(x, i)
    return total


@any_order_kernel
def _sum_of_squares(x: int, n: int) -> float:
    total = float32(0)
    for i in range(n):
        total += read_float(x, i) * read_float(x, i)
    return total


@any_order_kernel
def _highest(x: int, n: int) -> float:
    found = read_float(x, 0)
    for i in range(1, n):
        found = max(found, read_float(x, i))
    return found


@lean_kernel
def norm(x: int, out: int, n: int, gain: int, bias: int, is_rms: int, eps: float) -> None:
    """RMSNorm or LayerNorm of ``n`` numbers; ``out`` may be ``x``."""
    mean = float32(0 if is_rms else _sum(x, n) / n)
    for i in range(n):
        write_float(out, i, read_float(x, i) - mean)
    scale = float32(1 / math.sqrt(_sum_of_squares(out, n) / n + eps))
    for i in range(n):
        write_float(out, i, read_float(out, i) * scale * read_float(gain, i))
    if bias != 0:
        for i in range(n):
            write_float(out, i, read_float(out, i) + read_float(bias, i))


@inlined_kernel
def exponential(x: float) -> float:
    """``e ** x`` of a float32, without branches, so that loops of it become vectors.

    ``x / ln 2`` is a whole number, which is an exponent, and a rest for the series. Within 2e-7 of
    the value; below -87 and above 88 it stays what it is there.
    """
    x = min(max(x, float32(-87.0)), float32(88.0))
    whole = int32(x * float32(1.4426950408889634) + float32(128.5)) - int32(128)
    rest = x - float32(whole) * float32(0.693359375) + float32(whole) * float32(2.12194440e-4)
    series = float32(1.9875691500e-4)
    series = series * rest + float32(1.3981999507e-3)
    series = series * rest + float32(8.3334519073e-3)
    series = series * rest + float32(4.1665795894e-2)
    series = series * rest + float32(1.6666665459e-1)
    series = series * rest + float32(5.0000001201e-1)
    series = series * rest * rest + rest + float32(1)
    return series * float_of_bits(int32(whole + int32(127)) << int32(23))


@lean_kernel
def activate(x: int, n: int, activation: int) -> None:
    """Apply a nonlinearity to ``n`` numbers where they lie; the identity leaves them."""
    if activation == SILU:
        for i in range(n):
            value = read_float(x, i)
            write_float(x, i, value / (float32(1) + exponential(-value)))
    elif activation == GELU_TANH:
        for i in range(n):
            value = read_float(x, i)
            inner = float32(2 * 0.7978845608028654) * (
                value + float32(0.044715) * value * value * value
            )
            write_float(x, i, value - value / (float32(1) + exponential(inner)))
    elif activation == GELU:
        for i in range(n):
            value = read_float(x, i)
            erf = float32(math.erf(value * float32(0.7071067811865476)))
            write_float(x, i, float32(0.5) * value * (float32(1) + erf))
    elif activation == RELU:
        for i in range(n):
            write_float(x, i, max(read_float(x, i), float32(0)))
    elif activation == RELU2:
        for i in range(n):
            value = max(read_float(x, i), float32(0))
            write_float(x, i, value * value)
    elif activation == SIGMOID:
        for i in range(n):
            write_float(x, i, float32(1) / (float32(1) + exponential(-read_float(x, i))))


@lean_kernel
def softmax(x: int, n: int, scale: float) -> None:
    """``n`` scores, times a scale, become weights that sum to 1."""
    highest = _highest(x, n)
    for i in range(n):
        write_float(x, i, exponential((read_float(x, i) - highest) * float32(scale)))
    total = _sum(x, n)
    for i in range(n):
        write_float(x, i, read_float(x, i) / total)
