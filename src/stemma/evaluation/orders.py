"""All orders of an n-gram on one text, in one pass."""

from __future__ import annotations

import math

import numpy as np
import torch

from stemma.evaluation.result import Evaluation, summarise
from stemma.evaluation.source import Reader, Tokens, bytes_of
from stemma.models.ngram import NGram


def evaluate_orders(
    model: NGram, tokens: Tokens, *, n_bytes: int | None = None, start_token: int | None = None
) -> list[Evaluation]:
    """`evaluate` of the models of order 0 (uniform), 1, ..., ``model.order``, in one pass.

    Arguments and errors as `evaluate`; each token is given all that is before it.
    """
    total_bytes = bytes_of(tokens, n_bytes)
    reader = Reader(tokens, start_token)
    ids = torch.from_numpy(reader.read(0, len(reader)))
    losses = -model.token_log_probs_by_order(ids[None])[:, 0].numpy()
    if start_token is None:
        first = np.full((len(losses), 1), math.log(model.vocab_size))
        losses = np.concatenate([first, losses], axis=1)
    return [
        summarise(of_order, n_bytes=total_bytes, context_length=None, stride=None)
        for of_order in losses
    ]
