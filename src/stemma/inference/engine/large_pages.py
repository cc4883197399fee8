"""Weights in large pages of memory, so that reading them all does not wait for their addresses.

A processor remembers where some thousand pages lie. At 4 KB each that is a few megabytes, and a
pass over larger weights looks up nearly every page; with pages of 2 MB there is nothing to look up.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from itertools import chain
from threading import Lock
from weakref import WeakSet

import torch
from torch import Tensor, nn

LARGE = 1 << 21
"""Bytes of a large page."""

_WORTH = 16 * LARGE
_LINE = 64

_settled: WeakSet[nn.Module] = WeakSet()
_moving = Lock()


@torch.inference_mode(mode=False)
def settle(model: nn.Module) -> bool:
    """Move the weights of a model, once, to one stretch of memory of large pages; True if it did.

    Nothing else about them changes: they are the same parameters with the same numbers. A small
    model stays where it is, and so does everything where the system has no such pages to ask for.
    """
    with _moving:
        return _settle(model)


def _settle(model: nn.Module) -> bool:
    weights = {id(w): w for w in chain(model.parameters(), model.buffers())}.values()
    n_bytes = sum(-(-w.nbytes // _LINE) * _LINE for w in weights)
    if model in _settled or n_bytes < _WORTH or not hasattr(mmap, "MADV_HUGEPAGE"):
        return False
    if any(w.is_inference() for w in weights):  # made in inference mode: they cannot be moved
        return False
    _settled.add(model)
    memory = mmap.mmap(-1, n_bytes + LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return False
    start = -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % LARGE
    kept_back = 0
    for weight in weights:
        weight.data = _copied(weight, memory, start)
        start += -(-weight.nbytes // _LINE) * _LINE
        kept_back += weight.nbytes
        if kept_back >= _WORTH:
            _give_back()
            kept_back = 0
    _give_back()
    return True


def _give_back() -> None:
    """Have the C library return free memory to the system: it keeps pieces of megabytes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _copied(weight: Tensor, memory: mmap.mmap, start: int) -> Tensor:
    if weight.numel() == 0:
        return weight.data
    moved = torch.frombuffer(memory, dtype=weight.dtype, count=weight.numel(), offset=start)
    return moved.view(weight.shape).copy_(weight.data)
