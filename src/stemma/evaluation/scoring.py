"""Losses of targets under any language model, by the cheapest way the model offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from stemma.models.language_model import LanguageModel

Precision = torch.dtype | Callable[[], AbstractContextManager[Any]] | None

_MOST_LOGITS = 2**25  # logits held at once: 128 MiB in float32


@runtime_checkable
class ScoresTokens(Protocol):
    """A model that scores given tokens without whole distributions."""

    def token_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq-1"]:
        """``log p(ids[:, t + 1] | ids[:, :t + 1])`` in nats."""


@runtime_checkable
class HasHead(Protocol):
    """A model whose output layer can be applied to some positions only."""

    vocab_size: int

    def hidden_states(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads."""

    def head(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits."""


def window_losses(
    model: LanguageModel, ids: Int[Tensor, "batch seq+1"], n_scored: int
) -> Float[Tensor, "batch n_scored"]:
    """-ln p, in nats, of the last ``n_scored`` tokens of each row given all before them in the row.

    The log-softmax is taken in float32 whatever the precision of the model.
    """
    targets = ids[:, -n_scored:]
    if isinstance(model, HasHead):
        hidden = model.hidden_states(ids[:, :-1])[:, -n_scored:].flatten(0, 1)
        rows = max(1, _MOST_LOGITS // model.vocab_size)
        losses = [
            F.cross_entropy(model.head(part).float(), wanted, reduction="none")
            for part, wanted in zip(
                torch.split(hidden, rows), torch.split(targets.flatten(), rows), strict=True
            )
        ]
        return torch.cat(losses).view_as(targets)
    if isinstance(model, ScoresTokens):
        return -model.token_log_probs(ids)[:, -n_scored:]
    log_probs = model.next_log_probs(ids[:, :-1])[:, -n_scored:]
    return -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


@contextmanager
def scoring(
    model: LanguageModel, precision: Precision, device: torch.device | str | None
) -> Iterator[torch.device]:
    """Evaluation mode, no gradients and the precision asked for; yields the device of the inputs.

    The training mode of each part of the model is put back afterwards.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    was_training = [module.training for module in modules]
    place = torch.device(device) if device is not None else _device_of(model)
    if isinstance(precision, torch.dtype):
        narrow: AbstractContextManager[Any] = torch.autocast(
            place.type, precision, enabled=precision != torch.float32
        )
    else:
        narrow = precision() if precision is not None else nullcontext()
    for module in modules:
        module.training = False
    try:
        with torch.inference_mode(), narrow:
            yield place
    finally:
        for module, mode in zip(modules, was_training, strict=True):
            module.training = mode


def _device_of(model: LanguageModel) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
