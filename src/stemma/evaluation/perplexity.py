"""Perplexity and bits per byte of any language model on any text.

What is paid for, and with what context, decides what the number means; here, for every model alike:

- Every token of the text is scored exactly once, end-of-text tokens included: the bits are those
  of a code from which the documents can be read back. Bits per byte divides them by the UTF-8
  bytes of the text.
- The first token is predicted from ``start_token``, which should be the tokenizer's end-of-text
  token, as at the start of every later document. Without one it is paid for at the uniform
  ``ln vocab_size``.
- Windows of ``context_length`` advance by ``stride``: the first scores all of its tokens, each
  later one its last ``stride``, so these have at least ``context_length - stride`` tokens before
  them. The smaller the stride, the more context, the lower and the dearer the number; so it is
  stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stemma.errors import DataError, ModelError
from stemma.evaluation.result import Evaluation, summarise
from stemma.evaluation.scoring import Precision, ScoresTokens, scoring, window_losses
from stemma.evaluation.source import Reader, Tokens, bytes_of
from stemma.evaluation.windows import window_batches

if TYPE_CHECKING:
    from stemma.models.language_model import LanguageModel

_WINDOW_WITHOUT_LIMIT = 1024

Progress = Callable[[int, int], None]


def evaluate(
    model: LanguageModel,
    tokens: Tokens,
    *,
    n_bytes: int | None = None,
    start_token: int | None = None,
    context_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    precision: Precision = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Loss, perplexity and bits per byte of ``model`` on a text (see the module for what they pay).

    Args:
        model: anything that satisfies the protocol.
        tokens: ids of the text: an array, a tensor, a list, or shards.
        n_bytes: UTF-8 bytes of the text; taken from ``tokens.n_bytes`` if that exists.
        start_token: predicts the first token; the tokenizer's ``end_of_text``.
        context_length: length of the windows; the model's own by default. A model without a limit
            that scores tokens itself (the n-gram) is given the whole text at once, any other
            windows of 1,024.
        stride: tokens by which windows advance; half of ``context_length`` by default.
        batch_size: windows at once.
        precision: a dtype for autocast, or a function that makes a context manager.
        device: where inputs are put; that of the model's parameters by default.
        progress: called with the tokens scored and their total after each batch.

    Raises:
        ModelError: if the windows exceed the model's context, or a loss is not finite.
        DataError: if there is no token, no number of bytes, or a token outside the vocabulary.
    """
    length, step = window_shape(model, context_length, stride)
    total_bytes = bytes_of(tokens, n_bytes)
    losses = token_losses(
        model,
        tokens,
        start_token=start_token,
        context_length=length,
        stride=step,
        batch_size=batch_size,
        precision=precision,
        device=device,
        progress=progress,
    )
    return summarise(losses, n_bytes=total_bytes, context_length=length, stride=step)


def token_losses(
    model: LanguageModel,
    tokens: Tokens,
    *,
    start_token: int | None = None,
    context_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    precision: Precision = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """-ln p of each token of a text, in nats and in order; arguments and errors as `evaluate`."""
    length, step = window_shape(model, context_length, stride)
    if batch_size < 1:
        raise ModelError(f"batch_size = {batch_size} is below 1")
    reader = Reader(tokens, start_token)
    n_tokens = len(tokens)
    losses = np.empty(n_tokens, dtype=np.float64)
    done = 0
    if start_token is None:
        losses[0] = math.log(model.vocab_size)
        done = 1
    if done == n_tokens:
        return losses
    length = length or n_tokens
    with scoring(model, precision, device) as place:
        for batch in window_batches(
            reader, length=length, stride=step or length, batch_size=batch_size
        ):
            _check_ids(batch.ids, model.vocab_size)
            ids = torch.from_numpy(batch.ids).to(place)
            found = window_losses(model, ids, batch.n_scored).double().flatten().cpu().numpy()
            _check_finite(found, done)
            losses[done : done + len(found)] = found
            done += len(found)
            if progress is not None:
                progress(done, n_tokens)
    return losses


def window_shape(
    model: LanguageModel, context_length: int | None, stride: int | None
) -> tuple[int | None, int | None]:
    """Context length and stride that an evaluation uses; (None, None): the whole text at once.

    Raises:
        ModelError: if they do not fit each other or the model.
    """
    limit = model.context_length
    if context_length is None:
        if limit is None and isinstance(model, ScoresTokens) and stride is None:
            return None, None
        context_length = _WINDOW_WITHOUT_LIMIT if limit is None else limit
    if context_length < 1 or (limit is not None and context_length > limit):
        bounds = "at least 1" if limit is None else f"within 1..{limit}, the model's context"
        raise ModelError(f"context_length = {context_length} is not {bounds}")
    stride = max(1, context_length // 2) if stride is None else stride
    if not 1 <= stride <= context_length:
        raise ModelError(
            f"stride = {stride} is not within 1..{context_length}, the context length",
            cure="A longer stride would leave tokens unscored.",
        )
    return context_length, stride


def _check_ids(ids: NDArray[np.int64], vocab_size: int) -> None:
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if len(wrong):
        raise DataError(
            f"token id {wrong[0]} is outside the model's vocabulary of {vocab_size}",
            cure="Encode the text with the model's own tokenizer.",
        )


def _check_finite(losses: NDArray[np.float64], first: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise ModelError(
            f"the loss of token {first + wrong[0]} is {losses[wrong[0]]}",
            cure="The weights or the precision give logits that are not finite: try float32, or an "
            "earlier checkpoint.",
        )
