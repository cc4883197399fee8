"""What mixtures of experts add to a loss, so that their experts are evenly used."""

from __future__ import annotations

import torch
from jaxtyping import Num
from torch import Tensor, nn

from stemma.nn import MixtureOfExperts


def routing_losses(
    model: nn.Module, weights: Num[Tensor, " batch"]
) -> tuple[Tensor, dict[str, Tensor]] | None:
    r"""The losses of the last pass's routing, summed over layers, and how the experts were used.

    .. math:: \sum_{\text{layers}} \sum_{r} w_r (c_b\, \text{balance}_r + c_z\, z_r)

    with :math:`w_r` the weight (number of labels) of row r. Each row's loss depends on that row
    alone, so that the sum over a batch is the same however it is cut into micro-batches. Where a
    layer balances over the batch instead, as Switch does, it is the batch at hand, and the cut
    matters: a product of two means is no sum over rows.

    Returns:
        The sum, and metrics multiplied by the sum of weights, as `LossTerms` wants them:
        ``balance`` (1 is even), ``max_load`` (the largest share of an expert in any layer),
        ``dropped`` (share of the choices). None if the model has no mixture of experts.
    """
    layers = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]
    used = [(layer, layer.routing) for layer in layers if layer.routing is not None]
    if not used:
        return None
    total = torch.zeros((), device=weights.device)
    balances = []
    for layer, routing in used:
        balance = (routing.balance_loss(layer.balance_over) * weights).sum()
        total = total + layer.balance_loss * balance
        if layer.z_loss:
            total = total + layer.z_loss * (routing.z_loss() * weights).sum()
        balances.append(balance.detach())
    weight = weights.sum()
    return total, {
        "balance": torch.stack(balances).mean(),
        "max_load": torch.stack([routing.load.max() for _, routing in used]).max() * weight,
        "dropped": torch.stack([routing.dropped for _, routing in used]).mean() * weight,
    }
