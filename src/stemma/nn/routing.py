"""Which experts the tokens of a pass chose: how evenly, and the losses that keep it even."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

BalanceOver = Literal["row", "batch"]
"""Whether each row of a batch, or all its tokens together, shall use the experts evenly."""


@dataclass(frozen=True, slots=True)
class Routing:
    """The choices of one layer in one pass.

    Args:
        logits: of the router, float32, with a graph while training.
        experts: the chosen ones, best first.
        kept: False where a choice found its expert full; None if none can be.
    """

    logits: Float[Tensor, "batch seq n_experts"]
    experts: Int[Tensor, "batch seq n_active"]
    kept: Bool[Tensor, "batch seq n_active"] | None = None

    @property
    def counts(self) -> Int[Tensor, " n_experts"]:
        """How many choices fell on each expert."""
        chosen = self.experts.flatten()
        zeros = torch.zeros(self.logits.shape[-1], dtype=chosen.dtype, device=chosen.device)
        return zeros.scatter_add(0, chosen, torch.ones_like(chosen))

    @property
    def load(self) -> Float[Tensor, " n_experts"]:
        """The share of the choices that fell on each expert; 1 / n_experts is even."""
        counts = self.counts
        return counts / counts.sum()

    @property
    def entropy(self) -> Float[Tensor, ""]:
        """Of the load, in nats; ``log(n_experts)`` is even, 0 is one expert for everything."""
        entropy: Tensor = torch.special.entr(self.load).sum()
        return entropy

    @property
    def dropped(self) -> Float[Tensor, ""]:
        """The share of the choices that found their expert full."""
        if self.kept is None:
            return torch.zeros((), device=self.experts.device)
        return 1 - self.kept.float().mean()

    def balance_loss(self, over: BalanceOver = "row") -> Float[Tensor, " batch"]:
        r""":math:`E \sum_i f_i P_i`, which is 1 where all experts are used alike; for each row.

        :math:`f_i` is the share of the choices that fell on expert i and :math:`P_i` its mean
        probability. Choices have no slope: the gradient is that of :math:`P_i`, and pushes most
        where most was chosen. Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6; over each row
        by itself: DeepSeek-V3, arXiv:2412.19437, equations 17 to 20.

        Args:
            over: ``"row"``: f and P of each row, so that a row's loss does not depend on which
                others are in its (micro-)batch; ``"batch"``: of all rows at hand, as Switch has it.
        """
        n_experts, batch = self.logits.shape[-1], self.logits.shape[0]
        chosen = F.one_hot(self.experts, n_experts).float().mean((1, 2))
        probabilities = self.logits.softmax(-1).mean(1)
        if over == "batch":
            chosen, probabilities = chosen.mean(0), probabilities.mean(0)
        return (n_experts * (chosen * probabilities).sum(-1)).expand(batch)

    def z_loss(self) -> Float[Tensor, " batch"]:
        r"""The mean of :math:`(\log \sum_i e^{z_i})^2` over each row's tokens: keeps logits small.

        Zoph et al. 2022 (ST-MoE), arXiv:2202.08906, equation 5.
        """
        return self.logits.logsumexp(-1).square().mean(-1)


def within_capacity(
    experts: Int[Tensor, "batch seq n_active"], n_experts: int, capacity: int
) -> Bool[Tensor, "batch seq n_active"]:
    """True for the first ``capacity`` choices of each expert in each row, in order of position."""
    chosen = F.one_hot(experts.flatten(1), n_experts)
    earlier = (chosen.cumsum(1) * chosen).sum(-1) - 1
    return (earlier < capacity).view(experts.shape)
