"""AdamW: Adam with weight decay beside the gradient's moments instead of inside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw as torch_adamw

_DEVICES_WITH_FUSED_KERNEL = ("cpu", "cuda", "mps", "xpu")


class AdamW(Optimizer):
    r"""Adam with decoupled weight decay.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1)\, g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1-\beta_2)\, g_t^2 \\
        \theta_t &= (1 - \eta_t \lambda)\, \theta_{t-1}
            - \eta_t \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}

    The decay :math:`\eta_t \lambda` is PyTorch's convention. The paper's is
    :math:`(\eta_t / \eta_{\max}) \lambda`, in which the learning rate and the decay can be tuned
    apart: its :math:`\lambda` is this one times the highest learning rate.

    Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2; Kingma & Ba 2014, arXiv:1412.6980.

    Args:
        params: parameters, or groups of them with their own ``lr``, ``betas``, ``eps`` and
            ``weight_decay``.
        lr: learning rate.
        betas: how much of the mean and of the mean square survives a step.
        eps: added to the denominator.
        weight_decay: lambda, applied to every parameter of the group.
        fused: use torch's fused kernel where the parameters' device has one; otherwise, and as its
            oracle, the update as it is written here.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        for group in self.param_groups:
            devices = {parameter.device.type for parameter in group["params"]}
            group["fused"] = fused and devices <= set(_DEVICES_WITH_FUSED_KERNEL)
            for parameter in group["params"]:
                self.state[parameter] = _new_state(parameter, fused=group["fused"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; gives the closure's value, if any."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["fused"]:
                self._fused_update(parameters, group)
            else:
                for parameter in parameters:
                    _update(parameter, self.state[parameter], group)
        return value

    def _fused_update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        torch_adamw(
            list[Tensor](parameters),
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _new_state(parameter: nn.Parameter, *, fused: bool) -> dict[str, Tensor]:
    # The fused kernel counts on the device; reading a counter back from there would wait for it.
    counter = torch.zeros((), device=parameter.device if fused else "cpu")
    return {
        "step": counter,
        "exp_avg": torch.zeros_like(parameter, requires_grad=False),
        "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
    }


def _update(parameter: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    gradient = parameter.grad
    assert gradient is not None
    beta1, beta2 = group["betas"]
    lr = group["lr"]
    mean, mean_square = state["exp_avg"], state["exp_avg_sq"]

    state["step"] += 1
    step = state["step"].item()
    mean.lerp_(gradient, 1 - beta1)
    mean_square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)

    # Both averages began at zero, and are too small by these factors.
    mean_bias = 1 - beta1**step
    square_bias = 1 - beta2**step
    denominator = mean_square.sqrt().div_(math.sqrt(square_bias)).add_(group["eps"])

    parameter.mul_(1 - lr * group["weight_decay"])
    parameter.addcdiv_(mean, denominator, value=-lr / mean_bias)
