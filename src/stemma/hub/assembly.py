"""Tensors read a few rows at a time into the type they are to have, so that no copy is ever whole.

A model that is loaded so takes little more memory than it will occupy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from stemma.errors import ModelError

BLOCK = 1 << 20
"""How many numbers are read at a time."""

_DTYPES = {
    "float32": torch.float32,
    "f32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "f16": torch.float16,
    "float64": torch.float64,
}


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A type by its name; None, for "as the file has it", by ``"auto"``.

    Raises:
        ModelError: if no floating-point type is called so.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    name = dtype.lower().removeprefix("torch.")
    if name not in _DTYPES:
        raise ModelError(f"dtype = {dtype!r}", cure=f"There is auto, fast, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def assembled(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    read: Callable[[int, int], Tensor],
) -> Tensor:
    """A tensor, read block by block.

    Args:
        shape: of the tensor; it has at least one dimension and no empty one.
        dtype: what its numbers are turned into.
        device: where it is put.
        read: first row and end -> these rows, in any shape; all dimensions but the last count rows.
    """
    n_rows = math.prod(shape[:-1])
    whole = torch.empty(n_rows, shape[-1], dtype=dtype, device=device)
    at_once = max(1, BLOCK // shape[-1])
    for start in range(0, n_rows, at_once):
        end = min(n_rows, start + at_once)
        whole[start:end] = read(start, end).reshape(end - start, shape[-1])
    return whole.reshape(shape)


def half_split(tensor: Tensor, n_heads: int) -> Tensor:
    """Rows of queries or keys whose pairs are neighbours -> rows whose pairs are half a head apart.

    Rows 2i and 2i + 1 of each head become rows i and i + d/2. Meta's Llama turns neighbours, and so
    do llama.cpp and llama2.c; Hugging Face's turns halves, and so do we.

    Raises:
        ModelError: if the rows are not pairs for so many heads.
    """
    if tensor.shape[0] % (2 * n_heads):
        raise ModelError(f"{tensor.shape[0]} rows are not pairs for {n_heads} heads")
    pairs = tensor.reshape(n_heads, -1, 2, *tensor.shape[1:])
    return pairs.transpose(1, 2).reshape(tensor.shape)


def interleaved(tensor: Tensor, n_heads: int) -> Tensor:
    """The inverse of `half_split`."""
    halves = tensor.reshape(n_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
