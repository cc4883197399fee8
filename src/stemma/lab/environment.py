"""What a run ran on: recorded with it, so that its figures can be read later."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from stemma import __version__

_PACKAGES = ("torch", "numpy", "safetensors", "pydantic")


def describe_environment(device: torch.device) -> dict[str, str]:
    """Hardware, operating system and versions, as a table of two columns."""
    facts = {
        "stemma": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(_usable_cores()),
        "torch threads": str(torch.get_num_threads()),
        "device": _device_name(device),
        "command": " ".join(["stemma", *sys.argv[1:]]),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def peak_memory_bytes() -> int | None:
    """The process's largest resident memory so far, or None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
