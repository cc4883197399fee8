"""A tokenizer small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


class Bytes:
    """Ids are the UTF-8 bytes; 256 ends a text."""

    vocab_size = 257
    end_of_text: int | None = 256
    fingerprint = "b" * 64

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)


@pytest.fixture
def tokenizer() -> Bytes:
    return Bytes()
