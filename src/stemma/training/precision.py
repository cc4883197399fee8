"""Which number format a machine computes in, and how memory is kept between steps."""

from __future__ import annotations

import ctypes
import logging
import platform
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from stemma.nn.hardware import multiplies_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]

_log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BELOW = 2**30
# Before glibc 2.35 a larger threshold is refused.
_LARGEST_OF_OLD_GLIBC = 32 * 2**20


def choose_dtype(device: torch.device | str, precision: Precision = "auto") -> torch.dtype:
    """The dtype of matrix products on a device.

    ``auto`` is bfloat16 where the hardware multiplies it (CUDA capability 8.0 and up; CPUs with
    AVX512-BF16 or AMX) and float32 elsewhere. bfloat16 that was asked for is used in any case; one
    logged line says so where the hardware only imitates it.
    """
    if precision == "float32":
        return torch.float32
    device = torch.device(device)
    multiplied = multiplies_bfloat16(device)
    if precision == "bfloat16" and not multiplied:
        _log.warning(
            "precision = bfloat16: this %s has no bfloat16 arithmetic and imitates it, slowly; "
            "float32 is faster here.",
            device.type.upper(),
        )
    return torch.bfloat16 if multiplied or precision == "bfloat16" else torch.float32


def autocast(device: torch.device | str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which matrix products are computed in ``dtype`` and sums in float32.

    The parameters, their gradients and the optimizer's state stay as they are (Micikevicius et al.
    2017, arXiv:1710.03740). With float32 it changes nothing.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=dtype == torch.bfloat16)


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of handing it back to the system at every step.

    glibc maps every block above 32 MiB anew, unmaps it when it is freed, and shrinks the heap when
    its end is free; the kernel clears each page at its next use. A training step allocates the same
    activations again and again. Measured on two cores (Zen 4, glibc 2.36, 4,096 tokens): a step of
    a nine-layer network of width 256 causes 54,000 page faults, 60 ms of system time, without this
    and 4,000, 2 ms, with it (230 and 205 ms on the clock); a float32 linear layer 256 -> 2048 alone
    takes 33 and 25 ms. The price is memory, a fifth more there: what was once used stays with the
    process. Only for a process whose work is training; a training run calls it, importing stemma
    does not.

    Returns:
        Whether it was done: only with glibc, that is on most Linux systems.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW) or mallopt(
        _M_MMAP_THRESHOLD, _LARGEST_OF_OLD_GLIBC
    )
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BELOW - 1))
