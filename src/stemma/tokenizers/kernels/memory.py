"""Reading arrays as C does: an index is never negative here, and eight bytes are one number.

numba lets ``a[-1]`` mean the last element, as numpy does, which costs a comparison at every access.
Whoever uses these functions has to know that the index lies within the array.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic


@intrinsic
def at(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        return context.unpack_value(builder, array.dtype, pointer)

    return array.dtype(array, types.intp), codegen


@intrinsic
def put(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        context.pack_value(builder, array.dtype, arguments[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


@intrinsic
def load_8_bytes(typing_context: Any, array: Any, index: Any) -> Any:
    """The bytes ``index : index + 8`` of an array of bytes as one little-endian number."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        wide = builder.bitcast(pointer, ir.IntType(64).as_pointer())
        return builder.load(wide, align=1)

    return types.uint64(array, types.intp), codegen


@intrinsic
def store_8_bytes(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight bytes at ``index`` of an array of bytes."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        wide = builder.bitcast(pointer, ir.IntType(64).as_pointer())
        builder.store(arguments[2], wide, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), codegen


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for ``array[index]`` to be brought near, and do not wait for it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # To be read, soon and often, as data.
        constants = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte), *constants])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _pointer(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
    array = context.make_array(kinds[0])(context, builder, arguments[0])
    return cgutils.gep_inbounds(builder, array.data, arguments[1])
