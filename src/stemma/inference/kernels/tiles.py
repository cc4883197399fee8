"""The innermost loops, written as vectors: sums of products of weights and activations.

numba leaves it to LLVM to find vectors in a loop; here they are said. A tile reads several rows of
weights side by side, asks for the memory that it will read soon, and holds its sums in registers:

``out[r, o] = sum over i of weights[o, i] * x[r, i]``

Weights are float32, bfloat16 (the upper half of a float32), int8, or 4-bit numbers in groups of 32,
each group with a scale s and an offset m: a weight is ``s * q + m``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from stemma.inference.kernels.machine import intrinsic

GROUP = 32
"""4-bit weights with one scale and one offset; their bytes hold weights i and i + 16 of it."""

OUTPUTS = 4
"""Rows of weights that a tile reads at once."""

_AHEAD = 16384
_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8


def _vector(kind: Any, n: int = _LANES) -> Any:
    return ir.VectorType(kind, n)


def _all(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, f"llvm.fma.v{c.type.count}f32", c.type, [a, b, c])


def _load(builder: Any, address: Any, kind: Any, mask: Any = None) -> Any:
    """A vector; the elements that a mask leaves out are zero and not touched in memory."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=1)
    element = kind.element
    suffix = "f32" if element == _FLOAT else f"i{element.width}"
    nothing = ir.Constant(kind, None)
    name = f"llvm.masked.load.v{kind.count}{suffix}.p0"
    return _call(builder, name, kind, [pointer, ir.IntType(32)(1), mask, nothing])


def _floats(builder: Any, address: Any, mask: Any = None) -> Any:
    return _load(builder, address, _vector(_FLOAT), mask)


def _bfloats(builder: Any, address: Any, mask: Any = None) -> Any:
    wide = _vector(ir.IntType(32))
    short = _load(builder, address, _vector(ir.IntType(16)), mask)
    bits = builder.shl(builder.zext(short, wide), _all(wide, 16))
    return builder.bitcast(bits, _vector(_FLOAT))


def _bfloat_pairs(builder: Any, address: Any) -> list[Any]:
    """Numbers 0, 2, 4, ... and numbers 1, 3, 5, ... of two vectors, which no lane has to leave."""
    word, floats = _vector(ir.IntType(32)), _vector(_FLOAT)
    both = _load(builder, address, word)
    halves = [builder.shl(both, _all(word, 16)), builder.and_(both, _all(word, 0xFFFF0000))]
    return [builder.bitcast(half, floats) for half in halves]


def _float_pairs(builder: Any, address: Any) -> list[Any]:
    """The activations that belong to them."""
    halves = [_floats(builder, builder.add(address, _INT(4 * i))) for i in (0, _LANES)]
    places = [list(range(start, 2 * _LANES, 2)) for start in (0, 1)]
    lanes = _vector(ir.IntType(32))
    return [builder.shuffle_vector(*halves, ir.Constant(lanes, place)) for place in places]


def _bytes(builder: Any, address: Any, mask: Any = None) -> Any:
    small = _load(builder, address, _vector(ir.IntType(8)), mask)
    wide = builder.sext(small, _vector(ir.IntType(32)))
    return builder.sitofp(wide, _vector(_FLOAT))


_READERS = {"float32": (_floats, 4), "bfloat16": (_bfloats, 2), "int8": (_bytes, 1)}


def _total(builder: Any, vector: Any) -> Any:
    n = vector.type.count
    while n > 1:
        n //= 2
        halves = []
        for start in (0, n):
            places = ir.Constant(_vector(ir.IntType(32), n), list(range(start, start + n)))
            halves.append(builder.shuffle_vector(vector, vector, places))
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))


def _prefetch(builder: Any, address: Any, n_bytes: int) -> None:
    number = ir.IntType(32)
    for place in range(0, n_bytes, 64):
        pointer = builder.inttoptr(
            builder.add(address, _INT(place + _AHEAD)), ir.IntType(8).as_pointer()
        )
        # To be read, soon and often, as data.
        constants = [number(value) for value in (0, 3, 1)]
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *constants])


def _mask(builder: Any, count: Any) -> Any:
    """True in the first ``count`` lanes."""
    lanes = ir.Constant(_vector(_INT), list(range(_LANES)))
    return builder.icmp_signed("<", lanes, _everywhere(builder, count))


class _Sums:
    """The sums of a tile, variables that LLVM keeps in registers."""

    def __init__(self, builder: Any, n_outputs: int, n_rows: int) -> None:
        kind = _vector(_FLOAT)
        self.at = [
            [cgutils.alloca_once_value(builder, _all(kind, 0.0)) for _ in range(n_rows)]
            for _ in range(n_outputs)
        ]

    def add(self, builder: Any, weights: list[Any], x: list[Any]) -> None:
        """Add the products of these vectors."""
        for weight, sums in zip(weights, self.at, strict=True):
            for activation, place in zip(x, sums, strict=True):
                summed = _multiply_add(builder, weight, activation, builder.load(place))
                builder.store(summed, place)


def _tile(kind: str, n_outputs: int, n_rows: int) -> Any:
    """The tile for one kind of weights and so many rows of weights and of activations."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, stride, scales, x, x_stride, n, out, out_stride = arguments
        sums = _Sums(builder, n_outputs, n_rows)
        rows = [builder.add(weights, builder.mul(stride, _INT(o))) for o in range(n_outputs)]
        inputs = [builder.add(x, builder.mul(x_stride, _INT(r))) for r in range(n_rows)]
        if kind == "int4":
            _sum_groups(builder, sums, (weights, rows, scales), inputs, n)
        else:
            _sum_numbers(builder, sums, (kind, weights, rows), inputs, n)
        for o in range(n_outputs):
            for r in range(n_rows):
                index = builder.add(builder.mul(out_stride, _INT(r)), _INT(4 * o))
                place = builder.inttoptr(builder.add(out, index), _FLOAT.as_pointer())
                builder.store(_total(builder, builder.load(sums.at[o][r])), place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(
        typing_context: Any,
        weights: Any,
        stride: Any,
        scales: Any,
        x: Any,
        x_stride: Any,
        n: Any,
        out: Any,
        out_stride: Any,
    ) -> Any:
        return types.void(*[types.int64] * 8), codegen

    return tile


def _sum_numbers(
    builder: Any, sums: _Sums, weights: tuple[str, Any, list[Any]], inputs: list[Any], n: Any
) -> None:
    """``n`` numbers of each row, a vector or two at a time; what remains goes through a mask."""
    kind, start, rows = weights
    read, size = _READERS[kind]
    paired = kind == "bfloat16"
    step = 2 * _LANES if paired else _LANES

    def add(i: Any, mask: Any = None) -> None:
        offset, offset_x = builder.mul(i, _INT(size)), builder.mul(i, _INT(4))
        vectors = [read(builder, builder.add(row, offset), mask) for row in rows]
        sums.add(
            builder, vectors, [_floats(builder, builder.add(row, offset_x), mask) for row in inputs]
        )

    def add_pairs(i: Any) -> None:
        offset, offset_x = builder.mul(i, _INT(size)), builder.mul(i, _INT(4))
        vectors = [_bfloat_pairs(builder, builder.add(row, offset)) for row in rows]
        x = [_float_pairs(builder, builder.add(row, offset_x)) for row in inputs]
        for half in range(2):
            sums.add(builder, [pair[half] for pair in vectors], [pair[half] for pair in x])

    n_whole = builder.and_(n, _INT(-step))
    with cgutils.for_range_slice(builder, _INT(0), n_whole, _INT(step)) as (i, _):
        read_at_once = len(rows) * size
        ahead = builder.add(start, builder.mul(i, _INT(read_at_once)))
        _prefetch(builder, ahead, read_at_once * step)
        add_pairs(i) if paired else add(i)
    with cgutils.for_range_slice(builder, n_whole, n, _INT(_LANES)) as (i, _):
        add(i, _mask(builder, builder.sub(n, i)))


def _sum_groups(
    builder: Any, sums: _Sums, weights: tuple[Any, list[Any], Any], inputs: list[Any], n: Any
) -> None:
    """``n`` 4-bit numbers of each row, a group at a time.

    ``scales`` has the scale and the offset of each group, bfloat16, row after row.
    """
    start, rows, scales = weights
    n_groups = builder.udiv(n, _INT(GROUP))
    with cgutils.for_range(builder, n_groups) as loop:
        group = loop.index
        ahead = builder.add(start, builder.mul(group, _INT(len(rows) * GROUP // 2)))
        _prefetch(builder, ahead, len(rows) * GROUP // 2)
        for part in range(0, GROUP // 2, _LANES):
            vectors: list[list[Any]] = [[], []]
            for o, row in enumerate(rows):
                place = builder.add(builder.mul(n_groups, _INT(o)), group)
                pair = builder.add(scales, builder.mul(place, _INT(4)))
                at = builder.add(builder.mul(group, _INT(GROUP // 2)), _INT(part))
                for half, vector in zip(
                    vectors, _nibbles(builder, builder.add(row, at), pair), strict=True
                ):
                    half.append(vector)
            for half, vector in enumerate(vectors):
                at = builder.add(
                    builder.mul(group, _INT(4 * GROUP)), _INT(4 * (half * GROUP // 2 + part))
                )
                x = [_floats(builder, builder.add(row, at)) for row in inputs]
                sums.add(builder, vector, x)


def _nibbles(builder: Any, address: Any, pair: Any) -> list[Any]:
    """The weights in the lower and in the upper halves of bytes."""
    wide, floats = _vector(ir.IntType(32)), _vector(_FLOAT)
    packed = builder.zext(_load(builder, address, _vector(ir.IntType(8))), wide)
    word = ir.IntType(32)
    both = builder.load(builder.inttoptr(pair, word.as_pointer()), align=4)
    bits = [builder.shl(both, word(16)), builder.and_(both, word(0xFFFF0000))]
    scale, offset = (_everywhere(builder, builder.bitcast(half, _FLOAT)) for half in bits)
    lower = builder.and_(packed, _all(wide, 15))
    upper = builder.lshr(packed, _all(wide, 4))
    return [
        _multiply_add(builder, builder.uitofp(half, floats), scale, offset)
        for half in (lower, upper)
    ]


def _everywhere(builder: Any, number: Any) -> Any:
    """A vector with one number in every lane."""
    kind = _vector(number.type)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(_vector(ir.IntType(32)), [0] * _LANES))


def _mixer(kind: str, n_vectors: int) -> Any:
    """``out[i] += sum over t of weights[t] * values[t, i]``, for so many vectors of features."""
    read, size = _READERS[kind]

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, stride, weights, n, out, n_features = arguments
        masks = [
            _mask(builder, builder.sub(n_features, _INT(v * _LANES))) for v in range(n_vectors)
        ]
        before = [
            _floats(builder, builder.add(out, _INT(v * _LANES * 4)), mask)
            for v, mask in enumerate(masks)
        ]
        sums = [cgutils.alloca_once_value(builder, vector) for vector in before]
        with cgutils.for_range(builder, n) as loop:
            row = builder.add(values, builder.mul(stride, loop.index))
            place = builder.add(weights, builder.mul(loop.index, _INT(4)))
            number = builder.load(builder.inttoptr(place, _FLOAT.as_pointer()), align=4)
            weight = _everywhere(builder, number)
            for v, (place, mask) in enumerate(zip(sums, masks, strict=True)):
                value = read(builder, builder.add(row, _INT(v * _LANES * size)), mask)
                builder.store(_multiply_add(builder, value, weight, builder.load(place)), place)
        for v, (place, mask) in enumerate(zip(sums, masks, strict=True)):
            at = builder.add(out, _INT(v * _LANES * 4))
            pointer = builder.inttoptr(at, _vector(_FLOAT).as_pointer())
            _call(
                builder,
                f"llvm.masked.store.v{_LANES}f32.p0",
                ir.VoidType(),
                [builder.load(place), pointer, ir.IntType(32)(1), mask],
            )
        return context.get_dummy_value()

    @intrinsic
    def mixer(
        typing_context: Any,
        values: Any,
        stride: Any,
        weights: Any,
        n: Any,
        out: Any,
        n_features: Any,
    ) -> Any:
        return types.void(*[types.int64] * 6), codegen

    return mixer


MIXED = 4 * _LANES
"""Features that a mixer takes at once."""

float_1, float_2, float_4 = (_tile("float32", OUTPUTS, rows) for rows in (1, 2, 4))
bfloat_1, bfloat_2, bfloat_4 = (_tile("bfloat16", OUTPUTS, rows) for rows in (1, 2, 4))
int8_1, int8_2, int8_4 = (_tile("int8", OUTPUTS, rows) for rows in (1, 2, 4))
int4_1, int4_2, int4_4 = (_tile("int4", OUTPUTS, rows) for rows in (1, 2, 4))
float_single, bfloat_single, int8_single, int4_single = (
    _tile(kind, 1, 1) for kind in ("float32", "bfloat16", "int8", "int4")
)
float_mixer, bfloat_mixer = (_mixer(kind, 4) for kind in ("float32", "bfloat16"))
