"""The tensors of a model directory, read one at a time from safetensors, single or sharded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stemma.errors import ModelError, reason
from stemma.hub.assembly import BLOCK, assembled

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class WeightFiles(Mapping[str, Tensor]):
    """Name -> tensor, read from its file when it is asked for, and not kept.

    A large tensor is read block by block, each straight out of the part of the file that is mapped
    into memory, which is given back with it: both that part and copies of it would count as ours.

    Args:
        directory: a model directory.
        device: where the tensors are put.
        dtype: what floating-point numbers are turned into; None: they stay as they are.

    Raises:
        ModelError: if there are no safetensors, a file is missing or damaged, or the index names
            what is not there.
    """

    def __init__(
        self,
        directory: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self._device = torch.device(device)
        self._dtype = dtype
        files, announced = weight_paths(directory)
        self._place: dict[str, Path] = {}
        for path in files:
            with _opened(path) as file:
                self._place.update(dict.fromkeys(file.keys(), path))
        if announced is not None and (lost := sorted(announced - set(self._place))):
            raise ModelError(
                f"the index names {lost[0]!r}, which none of its files holds",
                where=str(directory / INDEX),
                cure="A file of the model is incomplete or of another version: get it again.",
            )

    def __getitem__(self, name: str) -> Tensor:
        path = self._place[name]
        with _opened(path) as file:
            part = file.get_slice(name)
            shape = tuple(part.get_shape())
            first: Tensor = part[:1] if shape and shape[0] else file.get_tensor(name)
            dtype = self._dtype if self._dtype and first.is_floating_point() else first.dtype
            if math.prod(shape) <= BLOCK:
                whole: Tensor = file.get_tensor(name)
                return whole.to(self._device, dtype, copy=True)

        def rows(start: int, end: int) -> Tensor:
            with _opened(path) as file:
                found: Tensor = file.get_slice(name)[start:end]
                return found

        flat = (shape[0], math.prod(shape[1:]))
        return assembled(flat, dtype, self._device, rows).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def is_pickle(path: Path) -> bool:
    """Whether a file begins as PyTorch's checkpoints do: a zip archive, or a bare pickle."""
    with path.open("rb") as file:
        data = file.read(4)
    # Two zeros never follow a pickle's version, but they do in a small number, as llama2.c has it.
    bare = data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return data == b"PK\3\4" or (bare and data[2:] != b"\0\0")


def refuse_pickle(path: Path) -> ModelError:
    """The error for a file that could run code when it is opened."""
    return ModelError(
        "is a pickle, and a pickle can run any code when it is opened; stemma never reads one",
        where=str(path),
        cure="Have `transformers` write it as safetensors, on a machine that may run its code: "
        "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW).",
    )


def weight_paths(directory: Path) -> tuple[list[Path], set[str] | None]:
    """The files that hold the tensors of a directory, and the names that its index announces.

    Raises:
        ModelError: if there are none, or pickles instead.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE], None
    if (directory / INDEX).is_file():
        return _files_of_index(directory)
    pickles = sorted(path for path in directory.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise refuse_pickle(pickles[0])
    raise ModelError(
        f"holds neither {SINGLE} nor {INDEX}",
        where=str(directory),
        cure="Give a directory with the weights, as save_model or save_pretrained write it.",
    )


def _files_of_index(directory: Path) -> tuple[list[Path], set[str]]:
    path = directory / INDEX
    index = read_json(path)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelError("has no weight_map from names to files", where=str(path), cure=_GET_AGAIN)
    files = []
    for name in sorted(set(places.values())):
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise ModelError(
                f"names {name!r}, which is not a safetensors file beside it", where=str(path)
            )
        if not (directory / name).is_file():
            raise ModelError(f"names {name!r}, which is missing", where=str(path), cure=_GET_AGAIN)
        files.append(directory / name)
    return files, set(places)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"is not readable as safetensors: {error}", where=str(path), cure=_GET_AGAIN
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: if it cannot be read or is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"cannot be read as JSON: {reason(error)}", where=str(path), cure=_GET_AGAIN
        ) from None
    if not isinstance(values, dict):
        raise ModelError("is not a JSON object", where=str(path), cure=_GET_AGAIN)
    return values


_GET_AGAIN = "The file is damaged or incomplete: copy or download it again."
