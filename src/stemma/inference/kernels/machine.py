"""What numba's Python lacks: memory by its address, and threads that wait for each other.

Whoever uses these functions has to know that an address is right.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from stemma.tokenizers.kernels import inlined_kernel, lean_kernel

intrinsic: Any = extending.intrinsic

_INT, _FLOAT, _SHORT = ir.IntType(64), ir.FloatType(), ir.IntType(16)
_PATIENCE = 4_000
_GIVE_WAY = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

_give_way = types.ExternalFunction(_GIVE_WAY, types.int32())

ARRIVED, ROUND, ABANDONED, MEETING_SIZE = 0, 8, 16, 24
"""Places in the int64 array of a meeting, each in a cache line of its own, and its size."""


@intrinsic
def address_of(typing_context: Any, array: Any) -> Any:
    """Where the first element of an array lies."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(made.data, _INT)

    return types.int64(array), codegen


@intrinsic
def read_float(typing_context: Any, address: Any, index: Any) -> Any:
    """The float32 number ``index`` behind an address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, arguments, _FLOAT), align=4)

    return types.float32(types.int64, types.int64), codegen


@intrinsic
def write_float(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write the float32 number ``index`` behind an address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, arguments, _FLOAT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def write_bfloat16(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write the bfloat16 number ``index`` behind an address: the nearest, to even in the middle."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(32)
        bits = builder.bitcast(arguments[2], wide)
        odd = builder.and_(builder.lshr(bits, wide(16)), wide(1))
        rounded = builder.add(bits, builder.add(odd, wide(0x7FFF)))
        short = builder.trunc(builder.lshr(rounded, wide(16)), _SHORT)
        builder.store(short, _place(builder, arguments, _SHORT), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 number with these 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), codegen


def _place(builder: Any, arguments: Any, kind: Any) -> Any:
    start = builder.inttoptr(arguments[0], kind.as_pointer())
    return builder.gep(start, [arguments[1]])


@intrinsic
def _add_atomically(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to an element and return what it was."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _element(context, builder, signature, arguments)
        return builder.atomic_rmw("add", pointer, arguments[2], "acq_rel")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def _load_atomically(typing_context: Any, array: Any, index: Any) -> Any:
    """An element, and with it all that was written before it was."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _element(context, builder, signature, arguments)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def _store_atomically(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write an element after all that was written before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _element(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), codegen


@intrinsic
def _pause(typing_context: Any) -> Any:
    """Tell the core that this is a loop of waiting, where it has a word for it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


def _element(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return cgutils.gep_inbounds(builder, array.data, arguments[1])


@lean_kernel
def meet(meeting: Any, n_threads: int) -> bool:
    """Wait until all threads are here; False if one has given the work up.

    They wait by looking, since they meet several times in each layer and a call of the operating
    system takes longer than the work between; after a while each look gives way to other threads.

    Args:
        meeting: int64 ``[MEETING_SIZE]``, zeros before the first use.
        n_threads: how many meet.
    """
    if n_threads == 1:
        return True
    now = _load_atomically(meeting, ROUND)
    if _add_atomically(meeting, ARRIVED, 1) + 1 == n_threads:
        _store_atomically(meeting, ARRIVED, 0)
        _store_atomically(meeting, ROUND, now + 1)
        return True
    looks = 0
    while _load_atomically(meeting, ROUND) == now:
        _pause()
        looks += 1
        if looks > _PATIENCE:
            if _load_atomically(meeting, ABANDONED):
                return False
            _give_way()
    return True


@inlined_kernel
def share(n: int, step: int, thread: int, n_threads: int) -> tuple[int, int]:
    """The part ``[first, last)`` of ``n`` pieces of work that is one thread's; whole steps."""
    n_steps = (n + step - 1) // step
    first = n_steps * thread // n_threads * step
    last = n_steps * (thread + 1) // n_threads * step
    return min(first, n), min(last, n)
