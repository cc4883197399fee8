"""Named tensors <-> safetensors files, by `torch.distributed.checkpoint`.

Its Hugging Face writer and reader are used, which know safetensors and JSON only; the default ones
keep their metadata in a pickle. They work without a process group, and read what any number of
ranks has written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor


class TensorFilesError(Exception):
    """The files could not be written or read; holds the reason that torch wraps."""


def write_tensors(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, which must not share memory, into a directory that exists.

    Raises:
        OSError: if the disk refuses.
        TensorFilesError: if torch does.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    state = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with _plain_errors():
        save(state, storage_writer=HuggingFaceStorageWriter(str(directory)), no_dist=True)


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Read all tensors of a directory onto the CPU.

    Raises:
        OSError: if the disk refuses.
        TensorFilesError: if the files are not what they should be.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    with _plain_errors():
        reader = HuggingFaceStorageReader(str(directory))
        described = reader.read_metadata().state_dict_metadata
        state: dict[str, Any] = {
            name: torch.empty(item.size, dtype=item.properties.dtype)
            for name, item in described.items()
            if isinstance(item, TensorStorageMetadata)
        }
        load(state, storage_reader=reader, no_dist=True)
    return state


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Let torch's `CheckpointException`, no `Exception` at all, out as the reason it wraps."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            # On a machine without a process group torch warns that it assumes a single process.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as wrapped:
        reason = next((failure[0] for failure in wrapped.failures.values()), wrapped)
        if isinstance(reason, OSError | KeyboardInterrupt):
            raise reason from None
        raise TensorFilesError(str(reason)) from reason
    except SafetensorError as error:
        raise TensorFilesError(str(error)) from error
