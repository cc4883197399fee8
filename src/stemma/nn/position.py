"""Where a token stands: added vectors, rotations of queries and keys, biases of scores, or nothing.

A scheme says in its config where it acts: `build_embedding` gives what is added to the token
embeddings, `build_rotation` what turns queries and keys, `build_bias` what is added to the scores.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.errors import ModelError
from stemma.nn.position_bias import Alibi, PositionBias, RelativeBuckets
from stemma.nn.rotary_scaling import RotaryScaling, RotaryScalingConfig


class Rotation(NamedTuple):
    """Cosine and sine of the angles of some positions, repeated over both halves of a head.

    ``[seq, d_head]`` if all rows have the same positions, else ``[batch, 1, seq, d_head]``. The
    first half of ``sin`` is negated, which saves an operation in `apply_rotation`.
    """

    cos: Tensor
    sin: Tensor

    def to(self, dtype: torch.dtype) -> Rotation:
        """The same in another precision."""
        return Rotation(self.cos.to(dtype), self.sin.to(dtype))


class Rotary(nn.Module):
    r"""Rotate pairs of features by angles proportional to the position.

    Features i and i + d/2 of a head form a pair (Hugging Face's half-split layout; the paper pairs
    2i and 2i + 1, and weights for one do not fit the other). At position m the pair turns by
    :math:`m \theta^{-2i/d}`, so that the product of a query and a key depends on the distance of
    their positions alone: :math:`\langle R_m q, R_n k \rangle = \langle R_{m-n} q, k \rangle`.

    Su et al. 2021, arXiv:2104.09864, section 3.2.

    Args:
        d_head: features of a head; even.
        theta: base of the wavelengths, which run from :math:`2\pi` to :math:`2\pi\theta`.
        scaling: changes the angles, for texts longer than those of training; see `RotaryScaling`.

    Raises:
        ModelError: if ``d_head`` is odd.
    """

    def __init__(
        self, d_head: int, *, theta: float = 10_000.0, scaling: RotaryScaling | None = None
    ) -> None:
        super().__init__()
        if d_head % 2:
            raise ModelError(odd_head(d_head))
        self.d_head = d_head
        self.theta = theta
        self.scaling = scaling

    def forward(self, positions: Int[Tensor, "*batch seq"]) -> Rotation:
        """Cosines and sines at ``positions``, in float32.

        They are computed anew for each pass over a model, not kept: that costs less than one
        head's rotation, and leaves no table for a cast to round or the meta device to lose.

        Args:
            positions: ``[seq]``, or ``[batch, seq]`` where rows differ.
        """
        pairs = torch.arange(0, self.d_head, 2, device=positions.device, dtype=torch.float32)
        per_position = self.theta ** -(pairs / self.d_head)
        if self.scaling is not None:
            per_position = self.scaling.scale(per_position, self.theta)
        angles = positions.unsqueeze(-1) * per_position
        if positions.ndim == 2:
            angles = angles.unsqueeze(1)
        cos, sin = angles.cos(), angles.sin()
        if self.scaling is not None and self.scaling.gain != 1:
            cos, sin = cos * self.scaling.gain, sin * self.scaling.gain
        return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))

    def extra_repr(self) -> str:
        """Size of a head and base."""
        scaling = "" if self.scaling is None else f", scaling={self.scaling}"
        return f"{self.d_head}, theta={self.theta}{scaling}"


def apply_rotation(
    x: Float[Tensor, "batch n_heads seq d_head"], rotation: Rotation
) -> Float[Tensor, "batch n_heads seq d_head"]:
    """Turn every pair (i, i + d_head/2) of ``x`` by the angle of its position."""
    swapped = x.roll(x.shape[-1] // 2, -1)
    return torch.addcmul(x * rotation.cos, swapped, rotation.sin)


def odd_head(d_head: int) -> str:
    """What is wrong with rotating heads of an odd size."""
    return f"d_head = {d_head} is odd, and rotary positions turn pairs: choose an even d_head"


class Sinusoidal(nn.Module):
    r"""Waves instead of learned vectors: a feature for the sine and one for the cosine of each.

    At position m, wave i of d/2 has the angle :math:`m \, 10000^{-2i/d}`; the vector of m + k is a
    rotation of that of m. In the paper's layout sines and cosines alternate; in that of its code
    (tensor2tensor, Marian) all sines come first.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        d_model: features; even.
        halves: all sines before all cosines.

    Raises:
        ModelError: if ``d_model`` is odd.
    """

    def __init__(self, d_model: int, *, halves: bool = False) -> None:
        super().__init__()
        if d_model % 2:
            raise ModelError(f"d_model = {d_model} is odd, and sinusoidal positions are pairs")
        self.d_model = d_model
        self.halves = halves

    def forward(self, positions: Int[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq d_model"]:
        """The vectors of ``positions``, in float32."""
        waves = torch.arange(0, self.d_model, 2, device=positions.device, dtype=torch.float32)
        angles = positions.unsqueeze(-1) * 10_000.0 ** -(waves / self.d_model)
        if self.halves:
            return torch.cat([angles.sin(), angles.cos()], dim=-1)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class _Positions(Config):
    """What a scheme of positions may build; most build one of the three."""

    def build_embedding(self, context_length: int, d_model: int) -> nn.Module | None:
        """Vectors to be added to those of the tokens."""
        return None

    def build_rotation(self, d_head: int) -> Rotary | None:
        """The rotation of heads of ``d_head`` features."""
        return None

    def build_bias(self, n_heads: int, *, causal: bool) -> PositionBias | None:
        """What is added to the scores of attention."""
        return None


class LearnedPositionsConfig(_Positions):
    """One learned vector for each position, added to the token embedding (as in GPT-2)."""

    kind: Literal["learned"] = "learned"

    def build_embedding(self, context_length: int, d_model: int) -> nn.Embedding:
        """The table of vectors."""
        return nn.Embedding(context_length, d_model)


class SinusoidalPositionsConfig(_Positions):
    """Builds a `Sinusoidal`."""

    kind: Literal["sinusoidal"] = "sinusoidal"
    halves: bool = Field(default=False, description="all sines before all cosines")

    def build_embedding(self, context_length: int, d_model: int) -> Sinusoidal:
        """The waves."""
        return Sinusoidal(d_model, halves=self.halves)


class RotaryConfig(_Positions):
    """Builds a `Rotary`."""

    kind: Literal["rotary"] = "rotary"
    theta: float = Field(default=10_000.0, gt=0)
    scaling: RotaryScalingConfig | None = Field(
        default=None, description="for longer texts than those of training"
    )

    def build_rotation(self, d_head: int) -> Rotary:
        """The rotation of heads of ``d_head`` features."""
        return Rotary(d_head, theta=self.theta, scaling=self.scaling)


class AlibiConfig(_Positions):
    """Builds an `Alibi`."""

    kind: Literal["alibi"] = "alibi"

    def build_bias(self, n_heads: int, *, causal: bool) -> Alibi:
        """The penalties of ``n_heads`` heads."""
        return Alibi(n_heads)


class RelativeBucketsConfig(_Positions):
    """Builds `RelativeBuckets`."""

    kind: Literal["relative_buckets"] = "relative_buckets"
    n_buckets: int = Field(default=32, ge=4)
    max_distance: int = Field(default=128, ge=2, description="from here on all are one bucket")

    def build_bias(self, n_heads: int, *, causal: bool) -> RelativeBuckets:
        """The table of ``n_heads`` heads."""
        return RelativeBuckets(
            n_heads, n_buckets=self.n_buckets, max_distance=self.max_distance, causal=causal
        )


class NoPositionsConfig(_Positions):
    """No positions but what the causal mask reveals (Haviv et al. 2022, arXiv:2203.16634)."""

    kind: Literal["none"] = "none"


PositionConfig = Annotated[
    LearnedPositionsConfig
    | SinusoidalPositionsConfig
    | RotaryConfig
    | AlibiConfig
    | RelativeBucketsConfig
    | NoPositionsConfig,
    Field(discriminator="kind"),
]
