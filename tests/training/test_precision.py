"""Precision: what is chosen on which hardware, what autocast does, and the allocator."""

from __future__ import annotations

import logging
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stemma.nn import hardware
from stemma.nn.hardware import read_cpu_flags
from stemma.training.precision import autocast, choose_dtype, tune_allocator


def have_features(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr(hardware, "_cpu_features", lambda: frozenset(features))


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16"])
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    have_features(monkeypatch, "avx512_f", feature)
    assert choose_dtype("cpu") == choose_dtype("cpu", "bfloat16") == torch.bfloat16
    assert choose_dtype("cpu", "float32") == torch.float32


def test_auto_is_float32_on_other_cpus_avx512_included(monkeypatch: pytest.MonkeyPatch) -> None:
    have_features(monkeypatch, "avx2", "avx512f", "amx_tile")
    assert choose_dtype("cpu") == torch.float32


def test_imitated_bfloat16_is_given_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    have_features(monkeypatch, "avx2")
    with caplog.at_level(logging.WARNING):
        assert choose_dtype("cpu", "bfloat16") == torch.bfloat16
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "CPU has no bfloat16 arithmetic" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_cuda_from_capability_8(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_dtype("cuda:0") == dtype


def test_unknown_devices_compute_in_float32() -> None:
    assert choose_dtype("meta") == torch.float32


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux's /proc/cpuinfo")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86 CPU")
def test_torch_and_the_kernel_agree_about_this_cpu() -> None:
    flags = read_cpu_flags(Path("/proc/cpuinfo"))
    assert "sse2" in flags
    for name in ("avx512_bf16", "amx_bf16"):
        assert (name in hardware._cpu_features()) == (name in flags)


def test_cpu_flags_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nflags\t\t: fpu\n")
    assert read_cpu_flags(path) == {"fpu", "avx512_bf16"}
    assert read_cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_products_in_the_dtype_and_keeps_the_gradients(
    dtype: torch.dtype,
) -> None:
    layer = torch.nn.Linear(4, 3)
    with autocast("cpu", dtype):
        product = layer(torch.ones(2, 4))
    assert product.dtype == dtype
    product.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == layer.weight.dtype == torch.float32


_COUNT_FAULTS = """
import resource, sys, torch
torch.set_num_threads(1)
from stemma.training.precision import tune_allocator
if sys.argv[1] == "tuned":
    assert tune_allocator()
def use():
    torch.zeros(12 * 2**20).add_(1)  # 48 MiB
use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_tuned_allocator_uses_its_pages_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _COUNT_FAULTS, how], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    pages = 40 * 48 * 2**20 // resource.getpagesize()
    assert faults("plain") >= pages
    # Once or twice the heap has to grow, since a freed block's end was given to something small.
    assert faults("tuned") < pages / 8


@pytest.mark.parametrize("where", [("Darwin", ""), ("Windows", ""), ("Linux", "musl")])
def test_elsewhere_the_allocator_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, where: tuple[str, str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: where[0])
    monkeypatch.setattr(platform, "libc_ver", lambda: (where[1], ""))
    assert tune_allocator() is False
