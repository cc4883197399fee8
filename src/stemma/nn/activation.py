"""The nonlinearities of feed-forward layers, as plain functions with a table of their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]
ActivationName = Literal["gelu", "gelu_tanh", "silu", "relu", "relu2", "sigmoid", "identity"]


def gelu_formula(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""GELU in its exact form, :math:`x \, \Phi(x) = \frac{x}{2} (1 + \mathrm{erf}(x / \sqrt 2))`.

    It is the expectation of x kept with probability Phi(x) and dropped otherwise.
    Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2. The readable twin of `gelu`.
    """
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh_formula(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""GELU as GPT-2 computes it: :math:`\frac{x}{2}(1 + \tanh(\sqrt{2/\pi}(x + 0.044715 x^3)))`.

    It is within 4.8e-4 of the exact form (arXiv:1606.08415, section 2). The twin of `gelu_tanh`.
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU, exact; see `gelu_formula`."""
    return F.gelu(x)


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU, tanh approximation; see `gelu_tanh_formula`."""
    return F.gelu(x, approximate="tanh")


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""SiLU or Swish, :math:`x \, \sigma(x)` (arXiv:1606.08415; Swish: arXiv:1710.05941)."""
    return F.silu(x)


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""ReLU, :math:`\max(x, 0)` (Nair & Hinton 2010)."""
    return F.relu(x)


def relu2(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Squared ReLU, :math:`\max(x, 0)^2` (Primer: So et al. 2021, arXiv:2109.08668)."""
    return F.relu(x).square()


def sigmoid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The logistic function, :math:`1 / (1 + e^{-x})`: the gate of a GLU (arXiv:1612.08083)."""
    return F.sigmoid(x)


def identity(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """No nonlinearity: as a gate it makes a Bilinear layer (arXiv:2002.05202, section 2)."""
    return x


ACTIVATIONS: dict[ActivationName, Activation] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "relu": relu,
    "relu2": relu2,
    "sigmoid": sigmoid,
    "identity": identity,
}
