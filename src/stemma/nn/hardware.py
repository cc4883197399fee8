"""What a machine can multiply."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether the device has instructions that multiply bfloat16 matrices.

    torch's own ``mkldnn`` check says yes to every CPU with AVX-512, imitation included.
    """
    device = torch.device(device)
    match device.type:
        case "cuda":
            return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
        case "cpu":
            return any(name in _cpu_features() for name in _BFLOAT16_INSTRUCTIONS)
        case _:
            return False


@functools.cache
def _cpu_features() -> frozenset[str]:
    report = getattr(torch.cpu, "get_capabilities", None)  # from torch 2.11 on
    if report is not None:
        return frozenset(name for name, present in report().items() if present is True)
    return read_cpu_flags(Path("/proc/cpuinfo"))


def read_cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """The instruction sets that Linux lists for the first core; none without such a file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
