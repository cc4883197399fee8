"""Muon: momentum whose matrices are made orthogonal before they are applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from stemma.errors import ConfigError
from stemma.training.precision import choose_dtype

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_SMALLEST_NORM = 1e-12

Scale = Literal["original", "match_rms_adamw"]


def orthogonalize(
    matrices: Float[Tensor, "batch rows columns"],
    *,
    steps: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch rows columns"]:
    r"""The nearest semi-orthogonal matrices, roughly, by a quintic Newton-Schulz iteration.

    .. math:: X \leftarrow a X + (b A + c A^2) X, \qquad A = X X^\top, \qquad X_0 = G / \|G\|_F

    With :math:`G = U S V^\top` it tends to :math:`U S' V^\top`, whose singular values are not 1 but
    oscillate around it: the coefficients trade that for the steepest rise of small ones. Five steps
    put every singular value that is at least 0.0015 of the Frobenius norm into [0.65, 1.25] (in
    float32); at 0.0001 of it, it has only come to 0.05.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        matrices: of one shape, any scale; zeros stay zeros.
        steps: how many iterations.
        dtype: what the products are computed and returned in; the norm is taken before.
    """
    a, b, c = COEFFICIENTS
    norms = torch.linalg.matrix_norm(matrices, keepdim=True).clamp_min(_SMALLEST_NORM)
    X: Tensor = (matrices / norms).to(dtype)
    tall = X.shape[-2] > X.shape[-1]
    if tall:  # X X^T is then the smaller of the two Gram matrices
        X = X.mT
    for _ in range(steps):
        A = torch.bmm(X, X.mT)
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, B, X, beta=a)
    return X.mT if tall else X


def momentum_at(step: int, start: float, end: float, warmup_steps: int) -> float:
    """The momentum of a step, counted from 0: from ``start`` in a straight line to ``end``."""
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps


def update_scale(rows: int, columns: int, kind: Scale) -> float:
    r"""What an orthogonal update of a (rows, columns) = (out, in) weight is multiplied by.

    ``original``: :math:`\sqrt{\max(1, out/in)}`, which keeps the change of the output's size alike
    for all shapes. ``match_rms_adamw``: :math:`0.2 \sqrt{\max(out, in)}`, which gives the update
    the root mean square of a typical AdamW update, so that AdamW's learning rate and decay can be
    taken over (Liu et al. 2025, arXiv:2502.16982, section 2.2).
    """
    if kind == "original":
        return math.sqrt(max(1.0, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))


class Muon(Optimizer):
    r"""Nesterov momentum, orthogonalised; for the matrices inside the network.

    .. math::
        M_t &= \mu_t M_{t-1} + (1-\mu_t)\, G_t, \qquad
        O_t = \mathrm{orthogonalize}(\mu_t M_t + (1-\mu_t)\, G_t) \\
        W_t &= (1 - \eta_t \lambda)\, W_{t-1} - \eta_t\, s\, O_t

    Matrices of one shape, or of its transpose, are orthogonalised in one batch, in bfloat16 where
    the hardware multiplies it; in a stack, as of experts, each is a matrix of its own. Embeddings,
    the head and vectors belong to AdamW.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        params: matrices or stacks of matrices ``[n, rows, columns]``, or groups of them.
        lr: learning rate, in units of the spectral norm of the update.
        momentum: mu, from ``warmup_steps`` on.
        momentum_start: mu at the first step.
        warmup_steps: over how many steps mu rises; a function of the step alone.
        nesterov: look ahead by one step of momentum.
        weight_decay: lambda, decoupled.
        scale: s, see `update_scale`.
        newton_schulz_steps: of `orthogonalize`.
        dtype: of its products; by default what the parameters' hardware multiplies fastest.

    Raises:
        ConfigError: if a parameter is neither.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        momentum_start: float = 0.85,
        warmup_steps: int = 300,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        scale: Scale = "original",
        newton_schulz_steps: int = 5,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": (momentum_start, momentum, warmup_steps),
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "scale": scale,
            "newton_schulz_steps": newton_schulz_steps,
            "dtype": dtype,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim not in (2, 3):
                    raise ConfigError(
                        f"Muon updates matrices, not a parameter of shape {tuple(parameter.shape)}",
                        cure="Give it to AdamW.",
                    )
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "momentum": torch.zeros_like(parameter, requires_grad=False),
                }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; gives the closure's value, if any."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for alike in self._batches(group["params"]):
                self._update(alike, group)
        return value

    def _batches(self, parameters: list[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
        """The parameters with a gradient, those that can share one computation together."""
        batches: dict[Any, list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                shape, step = sorted(parameter.shape[-2:]), self.state[parameter]["step"].item()
                key = (*shape, step, parameter.dtype, parameter.device)
                batches.setdefault(key, []).append(parameter)
        return batches.values()

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        steps = [self.state[parameter]["step"] for parameter in parameters]
        mu = momentum_at(int(steps[0]), *group["momentum"])
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(momenta, gradients, 1 - mu)
        directions = torch._foreach_lerp(gradients, momenta, mu) if group["nesterov"] else momenta
        lr, device = group["lr"], parameters[0].device
        stacks = [_wide(direction) for direction in directions]
        updates = orthogonalize(
            torch.cat(stacks),
            steps=group["newton_schulz_steps"],
            dtype=group["dtype"] or choose_dtype(device),
        )
        parts = torch.split(updates, [len(stack) for stack in stacks])
        for parameter, update in zip(parameters, parts, strict=True):
            rows, columns = parameter.shape[-2:]
            oriented = update.mT if rows > columns else update
            parameter.mul_(1 - lr * group["weight_decay"])
            scale = update_scale(rows, columns, group["scale"])
            parameter.add_(oriented.reshape(parameter.shape), alpha=-lr * scale)


def _wide(matrices: Tensor) -> Float[Tensor, "n rows columns"]:
    """A matrix or a stack of them as a stack, no matrix taller than wide."""
    rows, columns = matrices.shape[-2:]
    stack = matrices.reshape(-1, rows, columns)
    return stack.mT if rows > columns else stack
