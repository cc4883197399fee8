"""Objectives: a batch and a model -> a summed loss and the number of labels it was summed over.

The sum, not the mean, is what an objective returns: the loop adds the weights of the whole global
batch first and divides once, so that cutting a batch into micro-batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from stemma.data import IGNORE_INDEX, Batch, PairBatch
from stemma.errors import ConfigError
from stemma.training.routing import routing_losses


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What an objective makes of one (micro-)batch.

    Args:
        loss_sum: the loss summed over the scored labels, a scalar with a graph, in nats.
        weight: the number of scored labels.
        metrics: further sums over the same labels; reported divided by the whole batch's weight.
    """

    loss_sum: Tensor
    weight: Tensor | float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """What training minimises: the weighted mean of a loss over the labels of a batch."""

    def weight(self, batch: Any) -> Tensor | float:
        """How many labels of ``batch`` are scored; read before any forward pass."""

    def __call__(self, model: nn.Module, batch: Any) -> LossTerms:
        """Run ``model`` on ``batch`` and sum the loss over its scored labels."""


class NextToken:
    r"""Predict each next token: :math:`-\sum_t \log p(x_{t+1} \mid x_{\le t})`, in nats.

    The cross entropy is taken in float32 whatever the model computes in: bfloat16 keeps 8 bits of a
    logit, and a sum over a large vocabulary would lose the small probabilities. Mixtures of experts
    add their losses (`routing_losses`).

    Args:
        label_smoothing: see `summed_cross_entropy`.

    Raises:
        ConfigError: if it is not from 0 to below 1.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = checked_smoothing(label_smoothing)

    def weight(self, batch: Batch) -> Tensor:
        """The number of labels that are not `IGNORE_INDEX`."""
        return (batch.labels != IGNORE_INDEX).sum()

    def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
        """Sum the cross entropy of ``model``'s logits at the labels that are scored."""
        logits = model(batch.ids, document_ids=batch.document_ids)
        return scored(logits, batch.labels, model, label_smoothing=self.label_smoothing)


class TargetGivenSource:
    r"""Predict each token of a target from its source and the tokens before it, in nats.

    Vaswani et al. 2017, arXiv:1706.03762, section 5.

    Args:
        label_smoothing: see `summed_cross_entropy`; the paper has 0.1.

    Raises:
        ConfigError: if it is not from 0 to below 1.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = checked_smoothing(label_smoothing)

    def weight(self, batch: PairBatch) -> Tensor:
        """The number of labels that are not `IGNORE_INDEX`."""
        return (batch.labels != IGNORE_INDEX).sum()

    def __call__(self, model: nn.Module, batch: PairBatch) -> LossTerms:
        """Sum the cross entropy of an encoder-decoder's logits at the labels that are scored."""
        logits = model(batch.source_ids, batch.ids, source_mask=batch.source_mask)
        return scored(logits, batch.labels, model, label_smoothing=self.label_smoothing)


def checked_smoothing(epsilon: float) -> float:
    """The share itself.

    Raises:
        ConfigError: if it is none.
    """
    if not 0 <= epsilon < 1:
        raise ConfigError(
            f"label_smoothing = {epsilon} is no share",
            cure="Choose from 0 to below 1, such as 0.1.",
        )
    return epsilon


def scored(
    logits: Float[Tensor, "batch seq vocab"],
    labels: Int[Tensor, "batch seq"],
    model: nn.Module,
    *,
    label_smoothing: float = 0.0,
) -> LossTerms:
    """The terms of a prediction, with those of the model's mixtures of experts, if it has any.

    Args:
        logits: of the model's last pass.
        labels: what they predict; `IGNORE_INDEX` is not scored.
        model: that gave them.
        label_smoothing: see `summed_cross_entropy`; the loss without it is a metric then.
    """
    counts = (labels != IGNORE_INDEX).sum(-1)
    loss_sum = summed_cross_entropy(logits, labels, label_smoothing)
    metrics = {}
    if label_smoothing:
        with torch.no_grad():
            metrics["cross_entropy"] = summed_cross_entropy(logits, labels)
    return with_routing(LossTerms(loss_sum, counts.sum(), metrics), model, counts)


def summed_cross_entropy(
    logits: Float[Tensor, "batch seq vocab"],
    labels: Int[Tensor, "batch seq"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Cross entropy in nats, summed over the labels that are not `IGNORE_INDEX`, in float32.

    With smoothing :math:`\epsilon` the label is a distribution: :math:`\epsilon / V` for each of
    the V tokens, and :math:`1 - \epsilon` more for the right one (Szegedy et al. 2015,
    arXiv:1512.00567, section 7; torch). Where :math:`\epsilon' / (V - 1)` goes to the V - 1 others
    alone, as in tensor2tensor and fairseq, it is the same loss with
    :math:`\epsilon = \epsilon' V / (V - 1)`.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def with_routing(terms: LossTerms, model: nn.Module, weights: Num[Tensor, " batch"]) -> LossTerms:
    """An objective's terms and the routing losses; what it had without them is a metric then.

    Args:
        terms: of the objective, after its pass over the model.
        model: with or without mixtures of experts; without, the terms stay as they are.
        weights: of the rows of that pass, which sum to the terms' weight.
    """
    found = routing_losses(model, weights)
    if found is None:
        return terms
    loss, metrics = found
    metrics = {"cross_entropy": terms.loss_sum.detach(), **terms.metrics, **metrics}
    return replace(terms, loss_sum=terms.loss_sum + loss, metrics=metrics)
