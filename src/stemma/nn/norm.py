"""LayerNorm and RMSNorm, each as a formula to read and as the form that runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stemma.config import Config


def layer_norm_formula(
    x: Float[Tensor, "*batch size"],
    gain: Float[Tensor, " size"],
    bias: Float[Tensor, " size"] | None,
    eps: float,
) -> Float[Tensor, "*batch size"]:
    r"""The readable twin of `LayerNorm`: :math:`g \odot (x - \mu)/\sqrt{\sigma^2 + \epsilon} + b`.

    Mean and (biased) variance are taken over the features of one position, in float32 or better.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = wide.mean(-1, keepdim=True)
    variance = (wide - mean).square().mean(-1, keepdim=True)
    normalised = ((wide - mean) * torch.rsqrt(variance + eps)).to(x.dtype)
    return normalised * gain if bias is None else normalised * gain + bias


def rms_norm_formula(
    x: Float[Tensor, "*batch size"], gain: Float[Tensor, " size"], eps: float
) -> Float[Tensor, "*batch size"]:
    r""":math:`g \odot x / \sqrt{\mathrm{mean}(x^2) + \epsilon}`, the readable twin of `RMSNorm`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_square = wide.square().mean(-1, keepdim=True)
    return (wide * torch.rsqrt(mean_square + eps)).to(x.dtype) * gain


class LayerNorm(nn.Module):
    r"""Normalise each position over its features: mean 0 and variance 1, then gain and bias.

    :math:`y = g \odot (x - \mu) / \sqrt{\sigma^2 + \epsilon} + b`

    Ba et al. 2016, arXiv:1607.06450, section 3; formula in `layer_norm_formula`.

    Args:
        size: number of features.
        eps: added to the variance, inside the root.
        bias: whether there is a b.
    """

    def __init__(self, size: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.size = size
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the statistics are float32 at least."""
        return F.layer_norm(x, (self.size,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Size and epsilon."""
        return f"{self.size}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    r"""Divide each position by the root mean square of its features, then apply a gain.

    :math:`y = g \odot x / \sqrt{\mathrm{mean}(x^2) + \epsilon}`

    Invariant to the scale of x, not to a shift. Zhang & Sennrich 2019, arXiv:1910.07467, section 3;
    formula in `rms_norm_formula`.

    Args:
        size: number of features.
        eps: added to the mean square, inside the root.
        from_one: whether the weight is what the gain differs from 1 by, so that weight decay pulls
            it to 1 (Gemma).
    """

    def __init__(self, size: int, *, eps: float = 1e-6, from_one: bool = False) -> None:
        super().__init__()
        self.size = size
        self.eps = eps
        self.from_one = from_one
        self.weight = nn.Parameter(torch.zeros(size) if from_one else torch.ones(size))

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the statistics are float32 at least."""
        gain = (self.weight + 1 if self.from_one else self.weight).to(x.dtype)
        if x.device.type == "cpu" and torch.is_grad_enabled():
            normed = _DifferentiableRMSNorm.apply(x, gain, self.eps)  # type: ignore[no-untyped-call]
            return cast("Tensor", normed)
        return F.rms_norm(x, (self.size,), gain, self.eps)

    def extra_repr(self) -> str:
        """Size and epsilon."""
        return f"{self.size}, eps={self.eps}"


class _DifferentiableRMSNorm(torch.autograd.Function):
    r"""RMSNorm with its gradient worked out: half the time of torch's on a CPU.

    With :math:`h = x / r` and :math:`r` the root mean square of n features,
    :math:`dx = (g \odot dy - h \, \mathrm{mean}(g \odot dy \odot h)) / r` and
    :math:`dg = \sum dy \odot h`. torch differentiates each step of the formula on a CPU, in a dozen
    passes over memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        inverse_rms = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normalised = (x * inverse_rms).to(x.dtype)
        ctx.save_for_backward(normalised, inverse_rms, gain)
        return cast("Tensor", normalised * gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        normalised, inverse_rms, gain = ctx.saved_tensors
        product = dy * normalised
        mean = (product @ (gain / -gain.numel())).unsqueeze(-1)
        dx = torch.addcmul(dy * gain, normalised, mean).mul_(inverse_rms.to(dy.dtype))
        d_gain = product.flatten(0, -2).sum(0, dtype=inverse_rms.dtype)
        return dx, d_gain.to(gain.dtype), None


class LayerNormConfig(Config):
    """Builds a `LayerNorm`."""

    kind: Literal["layer_norm"] = "layer_norm"
    eps: float = Field(default=1e-5, gt=0)
    bias: bool = True

    def build(self, size: int) -> LayerNorm:
        """The norm of ``size`` features."""
        return LayerNorm(size, eps=self.eps, bias=self.bias)


class RMSNormConfig(Config):
    """Builds an `RMSNorm`."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: float = Field(default=1e-6, gt=0)
    from_one: bool = Field(default=False, description="the gain is 1 and the weight")

    def build(self, size: int) -> RMSNorm:
        """The norm of ``size`` features."""
        return RMSNorm(size, eps=self.eps, from_one=self.from_one)


NormConfig = Annotated[LayerNormConfig | RMSNormConfig, Field(discriminator="kind")]
