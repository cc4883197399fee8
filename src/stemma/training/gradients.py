"""The gradient of one global batch, in however many micro-batches it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from stemma.training.objective import LossTerms, Objective


def accumulate_gradients(
    model: nn.Module,
    objective: Objective,
    parts: Sequence[Any],
    total_weight: float,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Tensor]:
    r"""Add the gradient of the batch's mean loss to the parameters' ``grad``.

    .. math:: \nabla \frac{1}{W} \sum_m \ell_m, \qquad W = \sum_m w_m

    where :math:`\ell_m` is the summed loss of micro-batch m and :math:`w_m` its number of labels.
    A mean per micro-batch, averaged afterwards, is another function as soon as the micro-batches
    have unequal numbers of labels.

    Args:
        model: called by the objective.
        objective: gives the summed loss of each part.
        parts: the micro-batches.
        total_weight: W, over all parts (and ranks).
        autocast: opens the context that the forward pass runs in.

    Returns:
        ``loss`` and the objective's own metrics, each a mean over the batch, still on the device.
    """
    means: dict[str, Tensor] = {}
    for part in parts:
        with autocast():
            terms = objective(model, part)
        (terms.loss_sum / total_weight).backward()  # type: ignore[no-untyped-call]
        for name, value in _sums(terms).items():
            mean = value.detach().float() / total_weight
            means[name] = means[name] + mean if name in means else mean
    return means


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The Euclidean norm of the whole gradient, a scalar on the device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(parameters: Sequence[nn.Parameter], norm: float, largest: float) -> None:
    """Scale the gradient, whose norm is ``norm``, down to ``largest`` if it is longer.

    Pascanu et al. 2013, arXiv:1211.5063, section 3.2.
    """
    if norm > largest:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, largest / norm)


def _sums(terms: LossTerms) -> dict[str, Tensor]:
    return {"loss": terms.loss_sum, **terms.metrics}
