"""What may be given to those who cut a text at random."""

from __future__ import annotations

import math

import numpy as np

from stemma.errors import TokenizerError


def check_sampling(generator: np.random.Generator, alpha: float) -> None:
    """Refuse what cannot be sampled with.

    Raises:
        TokenizerError: if ``generator`` is none, or ``alpha`` is negative or not finite.
    """
    if not isinstance(generator, np.random.Generator):
        raise TokenizerError(
            f"generator is {generator!r}", cure="Give numpy.random.default_rng(seed)."
        )
    if not 0 <= alpha < math.inf:
        raise TokenizerError(f"alpha is {alpha}", cure="It has to be 0 or more, and finite.")
