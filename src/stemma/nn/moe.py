"""A sparse mixture of experts: many feed-forward layers, of which each token takes a few."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.activation import ACTIVATIONS, Activation, ActivationName
from stemma.nn.routing import BalanceOver, Routing, within_capacity


class ExpertLinear(nn.Module):
    """One linear map for each expert, without biases: a matrix of them all.

    Args:
        n_experts: how many maps.
        in_features: features in.
        out_features: features out.
    """

    def __init__(self, n_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(n_experts, out_features, in_features))
        nn.init.normal_(self.weight, std=1 / math.sqrt(in_features))

    def forward(
        self, x: Float[Tensor, "tokens features"], counts: Int[Tensor, " n_experts"]
    ) -> Float[Tensor, "tokens out_features"]:
        """Map tokens that lie in the order of their experts, ``counts`` of them for each."""
        weight = self.weight.to(x.dtype)
        if _products_can_be_grouped(x, weight):
            ends = counts.cumsum(0).to(torch.int32)
            return F.grouped_mm(x, weight.mT, offs=ends)
        parts = zip(torch.split(x, counts.tolist()), weight, strict=True)
        return torch.cat([F.linear(part, matrix) for part, matrix in parts])

    def extra_repr(self) -> str:
        """Its sizes."""
        n_experts, out_features, _ = self.weight.shape
        return f"{n_experts} x ({self.in_features} -> {out_features})"


def _products_can_be_grouped(x: Tensor, weight: Tensor) -> bool:
    """Whether torch multiplies all experts' tokens in one call.

    It is as fast as a loop with 8 experts of 256 x 352 and 2,048 tokens on one CPU core, and takes
    46 % of its time with 64 experts of 64 x 64 and 256 tokens (float32, forward and backward). It
    wants rows of whole 16 bytes, and bfloat16 on a GPU or under torch.compile, which breaks its
    graph at the loop otherwise.
    """
    aligned = all(size * x.element_size() % 16 == 0 for size in weight.shape[1:])
    any_dtype = x.device.type == "cpu" and not torch.compiler.is_compiling()
    ready = any_dtype or x.dtype == torch.bfloat16
    return hasattr(F, "grouped_mm") and aligned and ready and x.shape[0] > 0


class MixtureOfExperts(nn.Module):
    r"""Each token goes through the few gated feed-forward layers that a router chooses for it.

    .. math::
        p = \mathrm{softmax}(W_r x), \qquad y = \sum_{i \in \mathrm{top}_k(p)} g_i\, E_i(x), \qquad
        g_i = p_i \;\text{ or }\; p_i \Big/ \sum_{j \in \mathrm{top}_k(p)} p_j

    so that parameters grow with the number of experts and the work per token does not. Shazeer et
    al. 2017, arXiv:1701.06538; Fedus et al. 2021 (Switch: k = 1), arXiv:2101.03961; Jiang et al.
    2024 (Mixtral: k = 2, renormalised), arXiv:2401.04088.

    The router computes in float32 whatever the rest does. What it chose in the last pass stays in
    ``routing``, for the losses that keep the experts evenly used and for looking at.

    With a capacity an expert takes, while training, at most :math:`\lceil c\, k\, T / E \rceil` of
    a row's choices, the earlier positions first, so that no token depends on later ones or on other
    rows; the choices beyond add nothing, and a token without any passes by the residual connection.
    Evaluation drops nothing: a cached position would otherwise differ from an uncached one.

    Args:
        d_model: features in and out.
        d_ff: features inside one expert.
        n_experts: E, how many there are.
        n_active: k, how many a token takes.
        activation: of the experts' gates.
        renormalize: whether the chosen weights are made to sum to 1.
        capacity_factor: c; None drops nothing.
        jitter: the router's input is multiplied by numbers from 1 - jitter to 1 + jitter while
            training (Switch, appendix).
        balance_loss: coefficient of `Routing.balance_loss`.
        z_loss: coefficient of `Routing.z_loss`.
        balance_over: see `Routing.balance_loss`.

    Raises:
        ModelError: if ``n_active`` does not fit, or one weight alone is to be renormalised.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        n_experts: int,
        n_active: int,
        activation: Activation,
        renormalize: bool = True,
        capacity_factor: float | None = None,
        jitter: float = 0.0,
        balance_loss: float = 0.01,
        z_loss: float = 0.0,
        balance_over: BalanceOver = "row",
    ) -> None:
        super().__init__()
        if problem := expert_problem(n_experts, n_active, renormalize):
            raise ModelError(problem)
        self.n_experts = n_experts
        self.n_active = n_active
        self.activation = activation
        self.renormalize = renormalize
        self.capacity_factor = capacity_factor
        self.jitter = jitter
        self.balance_loss = balance_loss
        self.z_loss = z_loss
        self.balance_over: BalanceOver = balance_over
        self.router = nn.Linear(d_model, n_experts, bias=False)
        self.gate_proj = ExpertLinear(n_experts, d_model, d_ff)
        self.up_proj = ExpertLinear(n_experts, d_model, d_ff)
        self.down_proj = ExpertLinear(n_experts, d_ff, d_model)
        self.routing: Routing | None = None

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        """Apply to every token the experts of its choice."""
        weights, self.routing = self.route(x)
        experts = self.routing.experts
        # The tokens in the order of their experts; a token stands there once for each of its.
        order = experts.flatten().argsort(stable=True)
        tokens = x.flatten(0, 1)[order // self.n_active]
        counts = self.routing.counts
        hidden = self.activation(self.gate_proj(tokens, counts)) * self.up_proj(tokens, counts)
        found = self.down_proj(hidden, counts)
        # And back: the places of a token's experts, side by side.
        found = found[order.argsort()].view(*experts.shape, x.shape[-1])
        mixed: Tensor = (found * weights.to(x.dtype).unsqueeze(-1)).sum(-2)
        return mixed

    def forward_by_experts(
        self, x: Float[Tensor, "batch seq d_model"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """What `forward` computes, one expert after the other: its readable twin."""
        weights, routing = self.route(x)
        y = torch.zeros_like(x)
        maps = zip(self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight, strict=True)
        for i, (gate, up, down) in enumerate(maps):
            chosen = routing.experts == i
            mine = chosen.any(-1)
            share = (weights * chosen).sum(-1)[mine].to(x.dtype)
            hidden = self.activation(x[mine] @ gate.mT) * (x[mine] @ up.mT)
            y[mine] += share.unsqueeze(-1) * (hidden @ down.mT)
        return y

    def route(
        self, x: Float[Tensor, "batch seq d_model"]
    ) -> tuple[Float[Tensor, "batch seq n_active"], Routing]:
        """The weights of the chosen experts, 0 for those that are full, and what was chosen."""
        with torch.autocast(x.device.type, enabled=False):
            seen = x.float()
            if self.training and self.jitter:
                seen = seen * torch.empty_like(seen).uniform_(1 - self.jitter, 1 + self.jitter)
            logits = F.linear(seen, self.router.weight.float())
            weights, experts = logits.softmax(-1).topk(self.n_active, dim=-1)
        if self.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        kept: Bool[Tensor, "batch seq n_active"] | None = None
        if self.training and self.capacity_factor is not None:
            fair = experts.shape[1] * self.n_active / self.n_experts
            kept = within_capacity(experts, self.n_experts, math.ceil(self.capacity_factor * fair))
            weights = weights * kept
        return weights, Routing(logits, experts, kept)

    @property
    def n_idle_parameters(self) -> int:
        """Parameters that a token does not meet: those of the experts that it does not take."""
        maps = (self.gate_proj, self.up_proj, self.down_proj)
        one_expert = sum(part.weight[0].numel() for part in maps)
        return (self.n_experts - self.n_active) * one_expert

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins without routing, whose tensors belong to a pass of the original."""
        return {**self.__dict__, "routing": None}

    def extra_repr(self) -> str:
        """How many experts."""
        return f"n_experts={self.n_experts}, n_active={self.n_active}"


def expert_problem(n_experts: int, n_active: int, renormalize: bool) -> str | None:
    """What is wrong with these numbers, and the cure; None if nothing is."""
    if not 1 <= n_active <= n_experts:
        return f"n_active = {n_active} of n_experts = {n_experts}: choose from 1 to {n_experts}"
    if renormalize and n_active == 1 < n_experts:
        return (
            "one expert's weight renormalised is always 1, and the router would learn nothing: set "
            "renormalize = false or n_active = 2"
        )
    return None


class MoEConfig(Config):
    """Builds a `MixtureOfExperts`."""

    kind: Literal["moe"] = "moe"
    d_ff: int = Field(ge=1, description="features inside one expert")
    n_experts: int = Field(ge=1)
    n_active: int = Field(default=2, ge=1, description="experts that a token takes")
    activation: ActivationName = "silu"
    renormalize: bool = Field(default=True, description="chosen weights sum to 1")
    capacity_factor: float | None = Field(
        default=None, gt=0, description="choices an expert takes, over its fair share; None: all"
    )
    jitter: float = Field(default=0.0, ge=0, lt=1, description="noise of the router's input")
    balance_loss: float = Field(default=0.01, ge=0, description="coefficient; 0 leaves it out")
    z_loss: float = Field(default=0.0, ge=0, description="coefficient; 0 leaves it out")
    balance_over: BalanceOver = "row"

    @model_validator(mode="after")
    def _experts_fit(self) -> Self:
        if problem := expert_problem(self.n_experts, self.n_active, self.renormalize):
            raise ValueError(problem)
        return self

    def build(self, d_model: int) -> MixtureOfExperts:
        """The layer for ``d_model`` features."""
        return MixtureOfExperts(
            d_model,
            self.d_ff,
            n_experts=self.n_experts,
            n_active=self.n_active,
            activation=ACTIVATIONS[self.activation],
            renormalize=self.renormalize,
            capacity_factor=self.capacity_factor,
            jitter=self.jitter,
            balance_loss=self.balance_loss,
            z_loss=self.z_loss,
            balance_over=self.balance_over,
        )
