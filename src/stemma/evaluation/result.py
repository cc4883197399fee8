"""What an evaluation found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = (
    512  # tokens; longer than the reach of most surprises, so that blocks are nearly independent
)
_FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model on a text, in every unit.

    Attributes:
        loss: mean -ln p of a token, in nats.
        n_tokens: tokens scored: all of the text, end-of-text tokens included.
        n_bytes: UTF-8 bytes of the text, the denominator of bits per byte.
        context_length: length of the windows; None if each token was given all before it.
        stride: tokens by which the windows advance; None with ``context_length``.
        standard_error: of ``loss``, over blocks of 512 tokens: how far another text of the same
            kind may differ, not another training run. None below 8 blocks.
    """

    loss: float
    n_tokens: int
    n_bytes: int
    context_length: int | None
    stride: int | None
    standard_error: float | None = None

    @property
    def perplexity(self) -> float:
        """``exp(loss)``: comparable only between models of one tokenizer."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_token(self) -> float:
        """``loss / ln 2``."""
        return self.loss / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """Bits that pay for the whole text over its bytes: comparable across tokenizers."""
        return self.bits_per_token * self.n_tokens / self.n_bytes

    @property
    def bits_per_byte_error(self) -> float | None:
        """``standard_error`` in bits per byte."""
        if self.standard_error is None:
            return None
        return self.standard_error / math.log(2) * self.n_tokens / self.n_bytes


def summarise(
    losses: NDArray[np.float64], *, n_bytes: int, context_length: int | None, stride: int | None
) -> Evaluation:
    """The evaluation of a text from the losses of its tokens, in nats and in order."""
    n_blocks = len(losses) // _BLOCK
    error = None
    if n_blocks >= _FEWEST_BLOCKS:
        means = losses[: n_blocks * _BLOCK].reshape(n_blocks, _BLOCK).mean(axis=1)
        error = float(means.std(ddof=1) / math.sqrt(n_blocks))
    return Evaluation(
        loss=float(losses.mean()),
        n_tokens=len(losses),
        n_bytes=n_bytes,
        context_length=context_length,
        stride=stride,
        standard_error=error,
    )
