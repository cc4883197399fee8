"""What few bits cost: the same text, token by token, before and after."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from stemma.evaluation.perplexity import token_losses
from stemma.evaluation.source import Tokens
from stemma.inference.quantisation import Bits, quantise
from stemma.models import Transformer


@dataclass(frozen=True)
class QuantisationLoss:
    """What a text costs a model whose weights are in few bits.

    Attributes:
        bits: of the weights; None for the model as it is.
        nats_per_token: mean of -ln p.
        perplexity: its exponential.
        added: mean difference to the model as it is, in nats per token.
        standard_error: of that mean, from the differences of the single tokens.
    """

    bits: Bits | None
    nats_per_token: float
    perplexity: float
    added: float
    standard_error: float


def quantisation_loss(
    model: Transformer, tokens: Tokens, **options: Any
) -> Iterator[QuantisationLoss]:
    """Score a text by a model as it is, then with int8 and with int4 weights, one after another.

    The model stays as it is; copies are quantised.

    Args:
        model: a model whose weights are numbers of 16 or 32 bits.
        tokens: ids of the text.
        options: those of `stemma.evaluation.token_losses`, whose errors are raised.
    """
    exact = token_losses(model, tokens, **options)
    yield QuantisationLoss(None, exact.mean(), math.exp(exact.mean()), 0.0, 0.0)
    for bits in get_args(Bits):
        losses = token_losses(quantise(copy.deepcopy(model), bits), tokens, **options)
        added = losses - exact
        yield QuantisationLoss(
            bits,
            losses.mean(),
            math.exp(losses.mean()),
            added.mean(),
            added.std() / math.sqrt(len(added)),
        )
