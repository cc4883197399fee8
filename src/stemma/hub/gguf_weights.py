"""The tensors of a GGUF file under Hugging Face's names, read one at a time and dequantised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.hub.assembly import assembled, half_split
from stemma.hub.gguf_names import Architecture
from stemma.tokenizers.formats.gguf_metadata import TensorPlace

_PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F64: torch.float64,
}
QUANTISED = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
)  # fmt: skip
"""The kinds of blocks that are read, besides plain numbers."""


class GGUFWeights(Mapping[str, Tensor]):
    """Hugging Face's name -> tensor, read from the file when it is asked for, and not kept.

    llama.cpp turns neighbouring features of a query or key, Hugging Face's Llama those half a head
    apart: rows of such files are put back in Hugging Face's order.

    Args:
        path: the file.
        places: its tensors.
        architecture: which model it is of.
        pairs: name of a tensor of the file -> number of heads whose rows are in llama.cpp's order.
        device: where the tensors are put.
        dtype: what the numbers are turned into.

    Raises:
        ModelError: if a tensor has a name or kind that is not known here, lies beyond the file, or
            shares bytes with another.
    """

    def __init__(
        self,
        path: Path,
        places: Mapping[str, TensorPlace],
        architecture: Architecture,
        pairs: Mapping[str, int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._path = path
        self._dtype = dtype
        self._pairs = pairs
        self._device = torch.device(device)
        size = path.stat().st_size
        self._refuse_overlap(
            {name: self._span(name, place, size) for name, place in places.items()}
        )
        self._places = places
        self._architecture = architecture
        self._names = {self._theirs(name): name for name in places}

    def __getitem__(self, name: str) -> Tensor:
        ours = self._names[name]
        tensor = self._read(self._places[ours])
        if self._architecture.is_transposed(ours):
            return tensor.T
        return half_split(tensor, self._pairs[ours]) if ours in self._pairs else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _theirs(self, name: str) -> str:
        if (found := self._architecture.theirs(name)) is None:
            raise ModelError(
                f"holds the tensor {name}, which no model of this architecture has",
                where=str(self._path),
            )
        return found

    def _read(self, place: TensorPlace) -> Tensor:
        kind = GGMLQuantizationType(place.kind)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        row_bytes = place.shape[-1] // block * block_bytes

        def rows(first: int, end: int) -> Tensor:
            n_bytes, start = (end - first) * row_bytes, place.start + first * row_bytes
            raw: NDArray[np.uint8] = np.fromfile(self._path, np.uint8, n_bytes, offset=start)
            if raw.size < n_bytes:
                raise ModelError("became shorter while it was read", where=str(self._path))
            if kind in _PLAIN:
                return torch.from_numpy(raw).view(_PLAIN[kind])
            with np.errstate(all="ignore"):  # a damaged scale may be anything
                return torch.from_numpy(dequantize(raw.reshape(end - first, -1), kind))

        return assembled(place.shape, self._dtype, self._device, rows)

    def _refuse_overlap(self, spans: Mapping[str, tuple[int, int]]) -> None:
        """A small file could else announce a model that fills the memory."""
        ordered = sorted(spans.items(), key=lambda item: item[1])
        for (name, (_, end)), (following, (start, _)) in pairwise(ordered):
            if start < end:
                raise ModelError(
                    f"is damaged: {name} ends at byte {end}, and {following} begins at {start}",
                    where=str(self._path),
                    cure="Copy or download it again.",
                )

    def _span(self, name: str, place: TensorPlace, size: int) -> tuple[int, int]:
        """Its first byte in the file, and that behind its last."""
        where = str(self._path)
        try:
            kind = GGMLQuantizationType(place.kind)
        except ValueError:
            raise ModelError(
                f"{name} is of kind {place.kind}, which is none", where=where
            ) from None
        if kind not in _PLAIN and kind.name not in QUANTISED:
            known = ", ".join([*(plain.name for plain in _PLAIN), *QUANTISED])
            raise ModelError(
                f"{name} is quantised as {kind.name}, which is not read here",
                where=where,
                cure=f"There is {known}: quantise the model anew.",
            )
        block, block_bytes = GGML_QUANT_SIZES[kind]
        row = place.shape[-1] if place.shape else 0
        end = place.start + math.prod(place.shape) // block * block_bytes
        if not all(place.shape) or row == 0 or row % block or end > size:
            raise ModelError(
                f"is cut off or damaged: {name}, {kind.name} of shape {place.shape}, should end at "
                f"byte {end}, and the file has {size}",
                where=where,
                cure="Copy or download it again.",
            )
        return place.start, end
