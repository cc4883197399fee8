"""Objectives: a batch and a model -> a summed loss and the number of labels it was summed over.

The sum, not the mean, is what an objective returns: the loop adds the weights of the whole global
batch first and divides once, so that cutting a batch into micro-batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from stemma.data import IGNORE_INDEX, Batch


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
    logit, and a sum over a large vocabulary would lose the small probabilities.
    """

    def weight(self, batch: Batch) -> Tensor:
        """The number of labels that are not `IGNORE_INDEX`."""
        return (batch.labels != IGNORE_INDEX).sum()

    def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
        """Sum the cross entropy of ``model``'s logits at the labels that are scored."""
        logits = model(batch.ids, document_ids=batch.document_ids)
        loss_sum = F.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.labels.flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
        )
        return LossTerms(loss_sum, self.weight(batch))
