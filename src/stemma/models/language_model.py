"""One protocol for "a language model": ids in, log-probabilities of the next id out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that predicts the next id, from Shannon's n-gram to a Transformer."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to ``vocab_size - 1``."""

    @property
    def context_length(self) -> int | None:
        """The most ids it accepts; None if any number."""

    def next_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """``[b, t]`` is the distribution of the id after ``ids[b, : t + 1]``, in nats."""


@runtime_checkable
class _ScoresTokens(Protocol):
    def token_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq-1"]: ...


def token_log_probs(
    model: LanguageModel, ids: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq-1"]:
    """``log p(ids[:, t + 1] | ids[:, : t + 1])`` in nats, by the model's own way if it has one.

    A model's ``token_log_probs`` need not make whole distributions, which most of the time and
    memory of a small model with a large vocabulary would go to.
    """
    if isinstance(model, _ScoresTokens):
        return model.token_log_probs(ids)
    log_probs = model.next_log_probs(ids[:, :-1])
    return log_probs.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)


def check_vocabulary(n_ids: int, vocab_size: int) -> None:
    """Refuse a tokenizer of ``n_ids`` ids for a model that has fewer.

    Raises:
        ModelError: that says both numbers.
    """
    if n_ids > vocab_size:
        raise ModelError(
            f"the tokenizer has {n_ids:,} ids, the model {vocab_size:,}",
            cure="Use the tokenizer that the model was trained with.",
        )
