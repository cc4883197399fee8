"""How the next id is chosen, as numbers: what a recipe, a command or a request says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, TypedDict

from pydantic import AfterValidator, Field

from stemma.config import Config

# Below this, float32 logits that differ at all differ by more than exp can represent.
COLDEST = 1e-6


# Beyond this float32 may overflow, and the distribution is no longer one.
_MOST = 1e6


def _temperature(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            "a temperature is a number from 0 up; 0 is greedy, 1 leaves the model as it is"
        )
    return value


def valid_top_k(value: int) -> int:
    """The number of ids that top-k keeps, or a ValueError."""
    if value < 1:
        raise ValueError("top-k keeps at least 1 id; leave it out to keep them all")
    return value


def valid_top_p(value: float) -> float:
    """The mass of a nucleus, or a ValueError."""
    if not 0 < value <= 1:
        raise ValueError("top-p is a probability mass in (0, 1]; 1 keeps every id")
    return value


def valid_min_p(value: float) -> float:
    """The fraction of min-p, or a ValueError."""
    if not 0 < value <= 1:
        raise ValueError(
            "min-p is a fraction in (0, 1] of the highest probability; leave it out to keep all"
        )
    return value


def valid_typical_p(value: float) -> float:
    """The mass of typical ids, or a ValueError."""
    if not 0 < value <= 1:
        raise ValueError("typical-p is a probability mass in (0, 1]; 1 keeps every id")
    return value


def valid_penalty(value: float) -> float:
    """The divisor of a repetition penalty, or a ValueError."""
    if not 1 / _MOST <= value <= _MOST:
        raise ValueError(
            f"a repetition penalty is a number above 0; 1 is none, {_MOST:,.0f} the most"
        )
    return value


def _shift(value: float) -> float:
    if not abs(value) <= _MOST:
        raise ValueError(f"what is added to a logit is from -{_MOST:,.0f} to {_MOST:,.0f}")
    return value


class SamplingConfig(Config):
    """How the next id is chosen from the logits; the default is the model's own distribution."""

    temperature: Annotated[float, AfterValidator(_temperature)] = Field(
        default=1.0, description="divides the logits; 0 takes the most probable id"
    )
    top_k: Annotated[int, AfterValidator(valid_top_k)] | None = Field(
        default=None, description="keep the k most probable ids"
    )
    top_p: Annotated[float, AfterValidator(valid_top_p)] | None = Field(
        default=None, description="keep the fewest ids that hold this much probability"
    )
    min_p: Annotated[float, AfterValidator(valid_min_p)] | None = Field(
        default=None, description="keep ids with at least this fraction of the highest probability"
    )
    typical_p: Annotated[float, AfterValidator(valid_typical_p)] | None = Field(
        default=None,
        description="keep the ids of most typical surprise that hold this much probability",
    )
    repetition_penalty: Annotated[float, AfterValidator(valid_penalty)] = Field(
        default=1.0, description="makes ids already in the text less probable"
    )
    frequency_penalty: Annotated[float, AfterValidator(_shift)] = Field(
        default=0.0, description="taken off an id's logit for each time it was generated"
    )
    presence_penalty: Annotated[float, AfterValidator(_shift)] = Field(
        default=0.0, description="taken off the logit of each id that was generated"
    )
    logit_bias: Mapping[int, Annotated[float, AfterValidator(_shift)]] | None = Field(
        default=None, description="added to the logits of these ids; -100 all but forbids one"
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="of the draws; None takes a fresh one, and reports it",
    )

    @property
    def greedy(self) -> bool:
        """Whether the most probable id is taken, without any draw (temperature 0)."""
        return self.temperature < COLDEST


STYLES: dict[str, SamplingConfig] = {
    "greedy": SamplingConfig(temperature=0.0),
    "temperature 0.8": SamplingConfig(temperature=0.8),
    "top-k 40": SamplingConfig(top_k=40),
    "top-p 0.9": SamplingConfig(top_p=0.9),
    "min-p 0.1": SamplingConfig(min_p=0.1),
}
"""The five classical ways of choosing, to be shown side by side."""


class SamplingRules(TypedDict, total=False):
    """The fields of `SamplingConfig`, as keyword arguments."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float] | None
    seed: int | None


def laid_over(sampling: SamplingConfig, rules: SamplingRules) -> SamplingConfig:
    """A sampling with some of its fields replaced.

    Raises:
        ConfigError: if a rule is unknown or out of range.
    """
    return SamplingConfig.parse({**sampling.model_dump(), **rules}, source="sampling")
