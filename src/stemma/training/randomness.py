"""Dropout's randomness as a pure function of (seed, step), and the user's own left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's dropout: 63 bits of a hash of (seed, step)."""
    digest = blake2b(f"{seed}:{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def private_randomness(device: torch.device) -> Iterator[None]:
    """Give the block torch's global generators, and put them back as they were afterwards.

    Dropout draws from them and takes no generator of its own, so there is no other way to it.
    """
    indices = [_index(device)] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=indices):
        yield


def seed_dropout(seed: int, step: int, device: torch.device) -> None:
    """Start the generators of one step."""
    value = step_seed(seed, step)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(value)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
