"""Rotary positions for longer texts than a model was trained on: its wavelengths are stretched.

Each way says what becomes of the angle per position of each pair of features. A pair that turns
fast tells near positions apart and has seen all its angles in training; one that turns slowly
would, at a new position, come to an angle never seen.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Protocol

import torch
from jaxtyping import Float
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from stemma.config import Config

Angles = Float[Tensor, " pairs"]
"""The angle per position of each pair of features, in radians."""


class RotaryScaling(Protocol):
    """What becomes of the angles of rotary positions."""

    @property
    def gain(self) -> float:
        """What cosines and sines are multiplied by."""

    def scale(self, angles: Angles, theta: float) -> Angles:
        """The angles after scaling.

        Args:
            angles: per position, for each pair of features, falling.
            theta: the base they were made of.
        """


class LinearScalingConfig(Config):
    r"""All angles divided by ``factor``: position interpolation.

    Chen et al. 2023, arXiv:2306.15595, section 2.3.
    """

    kind: Literal["linear"] = "linear"
    factor: float = Field(ge=1)

    @property
    def gain(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    def scale(self, angles: Angles, theta: float) -> Angles:
        """The angles after scaling."""
        return angles / self.factor


class Llama3ScalingConfig(Config):
    r"""Long wavelengths stretched, short ones kept, those between in proportion: Llama 3.1's way.

    A pair that turns round more than ``high_frequency`` times in the original context keeps its
    angle; one with fewer than ``low_frequency`` turns gets it divided by ``factor``.

    Grattafiori et al. 2024, arXiv:2407.21783, section 3.4.2; the formula is that of its code.
    """

    kind: Literal["llama3"] = "llama3"
    factor: float = Field(ge=1)
    original_context: int = Field(ge=1, description="positions that it was trained on before")
    low_frequency: float = Field(default=1.0, gt=0, description="turns in the original context")
    high_frequency: float = Field(default=4.0, gt=0, validate_default=True)

    @field_validator("high_frequency")
    @classmethod
    def _above_the_low_one(cls, value: float, info: ValidationInfo) -> float:
        low = info.data.get("low_frequency")
        if low is not None and value <= low:
            raise ValueError(f"it must be above low_frequency = {low}")
        return value

    @property
    def gain(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    def scale(self, angles: Angles, theta: float) -> Angles:
        """The angles after scaling."""
        turns = self.original_context * angles / (2 * math.pi)
        kept = (turns - self.low_frequency) / (self.high_frequency - self.low_frequency)
        kept = kept.clamp(0, 1)
        return kept * angles + (1 - kept) * angles / self.factor


class YarnScalingConfig(Config):
    r"""Angles divided by ``factor`` where pairs turn slowly, kept where they turn fast: YaRN.

    Between ``slow`` and ``fast`` turns in the original context the share that is kept grows
    linearly with the number of the pair. Attention also gets sharper: queries and keys are
    multiplied by :math:`0.1 \ln(factor) + 1`, or what is given.

    Peng et al. 2023, arXiv:2309.00071, sections 3.2 to 3.4.
    """

    kind: Literal["yarn"] = "yarn"
    factor: float = Field(ge=1)
    original_context: int = Field(ge=1, description="positions that it was trained on before")
    fast: float = Field(default=32.0, gt=0, description="turns in the original context")
    slow: float = Field(default=1.0, gt=0)
    sharpness: float | None = Field(
        default=None, gt=0, description="of queries and keys each; default: from the factor"
    )
    whole_pairs: bool = Field(
        default=True, description="whether the ramp begins and ends at a pair of features"
    )

    @property
    def gain(self) -> float:
        """What cosines and sines are multiplied by."""
        return self.sharpness or 0.1 * math.log(self.factor) + 1.0

    def scale(self, angles: Angles, theta: float) -> Angles:
        """The angles after scaling."""
        n_pairs = angles.numel()
        first, last = self._pair(self.fast, n_pairs, theta), self._pair(self.slow, n_pairs, theta)
        if self.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * n_pairs - 1)
        pairs = torch.arange(n_pairs, device=angles.device, dtype=angles.dtype)
        stretched = ((pairs - first) / (last - first or 0.001)).clamp(0, 1)
        return stretched * angles / self.factor + (1 - stretched) * angles

    def _pair(self, turns: float, n_pairs: int, theta: float) -> float:
        """The number, not a whole one, of the pair that turns so often in the original context."""
        return n_pairs * math.log(self.original_context / (turns * 2 * math.pi), theta)


RotaryScalingConfig = Annotated[
    LinearScalingConfig | Llama3ScalingConfig | YarnScalingConfig, Field(discriminator="kind")
]
