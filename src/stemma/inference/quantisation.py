r"""Weights in 8 or 4 bits, activations as they are: less memory to read for each token.

Each weight is rounded to the nearest level of a grid, which is chosen for each row of a matrix (8
bits) or for each group of 32 weights in it (4 bits), without looking at data. The modules here are
plain torch and work in any model; `stemma.inference.engine` reads their numbers in compiled code.

Jacob et al. 2018, arXiv:1712.05877, section 2.1; rows and groups: Dettmers & Zettlemoyer 2023,
arXiv:2212.09720, section 3.
"""

from __future__ import annotations

from typing import Literal, TypeVar, get_args

import torch
from jaxtyping import Float, Int, Int8, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.errors import ModelError
from stemma.nn import Head, MixtureOfExperts

Bits = Literal["int8", "int4"]

GROUP = 32
"""4-bit weights that share a scale and an offset."""

_REFITS = 2

Model = TypeVar("Model", bound=nn.Module)


def quantise_rows(
    weight: Float[Tensor, "out in"],
) -> tuple[Int8[Tensor, "out in"], Float[Tensor, " out"]]:
    r"""8-bit numbers q and a scale for each row: :math:`w \approx s q` with s = max |w| / 127."""
    wide = weight.float()
    scale = wide.abs().amax(1) / 127
    scale = torch.where(scale > 0, scale, 1)
    return (wide / scale.unsqueeze(1)).round_().to(torch.int8), scale


def quantise_groups(
    weight: Float[Tensor, "out in"],
) -> tuple[UInt8[Tensor, "out half_in"], Float[Tensor, "out groups 2"]]:
    r"""4-bit numbers q, a scale and an offset for each group: :math:`w \approx s q + m`.

    The grid spans the group at first; then, twice, the scale and the offset are those of least
    squared error for the numbers that were found, and the numbers are rounded again.

    Returns:
        Two numbers in each byte, weights i and i + 16 of a group in the lower and the upper half;
        and the pairs (s, m), bfloat16.

    Raises:
        ModelError: if the rows are not whole groups.
    """
    if weight.shape[1] % GROUP:
        raise ModelError(
            f"rows of {weight.shape[1]} weights are not whole groups of {GROUP}",
            cure="Take 8 bits for this matrix.",
        )
    groups = weight.float().view(len(weight), -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale, offset = _kept((high - low) / 15), _kept(low)
    best = levels = _nearest_levels(groups, scale, offset)
    pairs, error = (scale, offset), _error(groups, levels, scale, offset)
    for _ in range(_REFITS):
        scale, offset = _fit(groups, levels)
        levels = _nearest_levels(groups, scale, offset)
        found = _error(groups, levels, scale, offset)
        better = found < error
        best = torch.where(better, levels, best)
        pairs = (torch.where(better, scale, pairs[0]), torch.where(better, offset, pairs[1]))
        error = torch.where(better, found, error)
    lower, upper = best.to(torch.uint8).chunk(2, dim=-1)
    return (lower | upper << 4).flatten(1), torch.cat(pairs, dim=-1).to(torch.bfloat16)


def _kept(x: Tensor) -> Tensor:
    """The numbers that are left when they are written down."""
    return x.to(torch.bfloat16).float()


def _nearest_levels(groups: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    steps = (groups - offset) / torch.where(scale == 0, 1, scale)
    return steps.round_().clamp_(0, 15)


def _error(groups: Tensor, levels: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return torch.addcmul(offset, levels, scale).sub_(groups).square_().sum(-1, keepdim=True)


def _fit(groups: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The line of least squares through (level, weight)."""
    mean_level, mean = levels.mean(-1, keepdim=True), groups.mean(-1, keepdim=True)
    centred = levels - mean_level
    spread = centred.square().sum(-1, keepdim=True)
    slope = (centred * groups).sum(-1, keepdim=True) / torch.where(spread == 0, 1, spread)
    scale = _kept(slope)
    return scale, _kept(mean - scale * mean_level)


def dequantise_rows(
    values: Int8[Tensor, "out in"], scales: Float[Tensor, " out"]
) -> Float[Tensor, "out in"]:
    """The weights that `quantise_rows` stands for, float32."""
    return values * scales.float().unsqueeze(1)


def dequantise_groups(
    values: UInt8[Tensor, "out half_in"], scales: Float[Tensor, "out groups 2"]
) -> Float[Tensor, "out in"]:
    """The weights that `quantise_groups` stands for, float32."""
    packed = values.view(len(values), -1, GROUP // 2)
    levels = torch.cat([packed & 15, packed >> 4], dim=-1)
    scale, offset = scales.float().unsqueeze(-2).unbind(-1)
    return torch.addcmul(offset, levels.float(), scale).flatten(1)


class _Quantised(nn.Module):
    """A matrix in few bits.

    Args:
        weight: the matrix.
        bits: 8 or 4 bits.
    """

    values: Tensor
    scales: Tensor

    def __init__(self, weight: Float[Tensor, "out in"], bits: Bits) -> None:
        super().__init__()
        self.bits = bits
        self.dtype = weight.dtype
        quantised = {"int8": quantise_rows, "int4": quantise_groups}[bits](weight.detach())
        self.register_buffer("values", quantised[0])
        self.register_buffer("scales", quantised[1])

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix, in the precision it had."""
        return self._dequantise(self.values, self.scales).to(self.dtype)

    def _dequantise(self, values: Tensor, scales: Tensor) -> Tensor:
        return {"int8": dequantise_rows, "int4": dequantise_groups}[self.bits](values, scales)


class QuantisedLinear(_Quantised):
    """A linear map whose matrix is in few bits: what `torch.nn.Linear` computes with `weight`.

    Args:
        weight: its matrix.
        bias: what is added, if anything.
        bits: 8 or 4 bits.
    """

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, bits: Bits
    ) -> None:
        super().__init__(weight, bits)
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Apply it, with weights made for the occasion."""
        bias = self.bias
        return F.linear(x, self.weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    def extra_repr(self) -> str:
        """Shape and bits."""
        return f"{self.in_features}, {self.out_features}, {self.bits}"


class QuantisedEmbedding(_Quantised):
    """Vectors in few bits, looked up by id."""

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch in"]:
        """Dequantise the rows of ``ids`` alone."""
        flat = ids.flatten()
        rows = self._dequantise(self.values[flat], self.scales[flat])
        return rows.to(self.dtype).view(*ids.shape, -1)

    def extra_repr(self) -> str:
        """Shape and bits."""
        return f"{self.values.shape[0]}, {self.bits}"


def quantise(model: Model, bits: Bits) -> Model:
    """Put every linear map and every embedding of tokens of a model into few bits, in place.

    With 4 bits, what reads and writes the vocabulary has 8, and so has a matrix whose rows are not
    whole groups. Positions, segments, norms and biases stay as they are, and so does a head that
    bounds its logits. A matrix that two modules share is quantised once and shared. The model can
    decode, not learn.

    Raises:
        ModelError: if ``bits`` is another word, the model is a mixture of experts, or it is
            quantised already.
    """
    if bits not in get_args(Bits):
        raise ModelError(f"weights as {bits!r}", cure="Choose int8 or int4.")
    if any(isinstance(part, _Quantised) for part in model.modules()):
        raise ModelError("the weights are in few bits already", cure="Load the model anew.")
    if any(isinstance(part, MixtureOfExperts) for part in model.modules()):
        raise ModelError(
            "a mixture of experts cannot be put into few bits",
            cure="Leave it as it is: most of its weights are those of the experts.",
        )
    made: dict[int, _Quantised] = {}
    vocabulary = {
        id(part.weight)
        for name, part in model.named_modules()
        if name.rpartition(".")[2] in ("tokens", "head") and hasattr(part, "weight")
    }
    for name, part in list(model.named_modules()):
        if type(part) not in (nn.Linear, nn.Embedding, Head):
            continue
        if isinstance(part, nn.Embedding) and id(part.weight) not in vocabulary:
            continue
        if isinstance(part, Head) and (part.softcap is not None or part.scale != 1):
            continue  # a linear map in its place would neither bound the logits nor scale
        weight: Tensor = part.weight
        wide = id(weight) in vocabulary or weight.shape[1] % GROUP
        chosen: Bits = "int8" if wide else bits
        if isinstance(part, nn.Linear):
            quantised: _Quantised = QuantisedLinear(weight, part.bias, chosen)
        else:
            quantised = QuantisedEmbedding(weight, chosen)
        twin = made.setdefault(id(weight), quantised)
        quantised.values, quantised.scales = twin.values, twin.scales
        model.set_submodule(name, quantised)
    return model.requires_grad_(False)
