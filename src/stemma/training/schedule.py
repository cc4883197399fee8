"""Learning-rate schedules: pure functions from the step to a factor in [0, 1].

Steps are counted from 0. The factor multiplies each group's own learning rate in the update of that
step. Warm-up rises in a straight line and reaches 1 in its last step; a decay reaches its end just
after the last step, so that no update is wasted on a factor of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from stemma.config import Config
from stemma.errors import ConfigError

Schedule = Callable[[int], float]


def constant(step: int, *, warmup_steps: int = 0) -> float:
    """1 after the warm-up."""
    return _warmup(step, warmup_steps)


def cosine(step: int, *, total_steps: int, warmup_steps: int = 0, final: float = 0.0) -> float:
    r"""Half a cosine from 1 down to ``final``.

    .. math:: f + (1-f) \tfrac12 (1 + \cos \pi x), \qquad x = \frac{t - w}{T - w}

    Loshchilov & Hutter 2016, arXiv:1608.03983, equation 5, without restarts.
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    x = _progress(step, warmup_steps, total_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * x))


def linear_cooldown(
    step: int,
    *,
    total_steps: int,
    cooldown_steps: int,
    warmup_steps: int = 0,
    final: float = 0.0,
) -> float:
    """1 until the last ``cooldown_steps`` (warm-up, stable, decay), then straight to ``final``.

    Hägele et al. 2024, arXiv:2405.18392.
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    x = _progress(step, total_steps - cooldown_steps, total_steps)
    return final + (1 - final) * (1 - x)


def inverse_sqrt(step: int, *, warmup_steps: int) -> float:
    r"""Down with the square root of the step after the warm-up.

    .. math:: \min\Bigl(\frac{t+1}{w}, \sqrt{\frac{w}{t+1}}\Bigr)

    Vaswani et al. 2017, arXiv:1706.03762, equation 3, divided by its peak.
    """
    return min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _progress(step: int, begin: int, end: int) -> float:
    """How far ``step`` is on the way from ``begin`` to ``end``, held in [0, 1]."""
    if begin >= end:
        return 1.0 if step >= end else 0.0
    return min(1.0, max(0.0, (step - begin) / (end - begin)))


class ConstantConfig(Config):
    """`constant`."""

    kind: Literal["constant"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)

    def build(self, total_steps: int) -> Schedule:
        """The schedule of a run of ``total_steps``."""
        _check_fit(total_steps, warmup_steps=self.warmup_steps)
        return partial(constant, warmup_steps=self.warmup_steps)


class CosineConfig(Config):
    """`cosine`."""

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    final_fraction: float = Field(
        default=0.1, ge=0, le=1, description="of the learning rate, at the end"
    )

    def build(self, total_steps: int) -> Schedule:
        """The schedule of a run of ``total_steps``."""
        _check_fit(total_steps, warmup_steps=self.warmup_steps)
        return partial(
            cosine,
            total_steps=total_steps,
            warmup_steps=self.warmup_steps,
            final=self.final_fraction,
        )


class LinearCooldownConfig(Config):
    """`linear_cooldown`."""

    kind: Literal["linear_cooldown"] = "linear_cooldown"
    warmup_steps: int = Field(default=0, ge=0)
    cooldown_fraction: float = Field(default=0.4, ge=0, le=1, description="of all steps")
    final_fraction: float = Field(
        default=0.0, ge=0, le=1, description="of the learning rate, at the end"
    )

    def build(self, total_steps: int) -> Schedule:
        """The schedule of a run of ``total_steps``."""
        cooldown_steps = round(self.cooldown_fraction * total_steps)
        _check_fit(total_steps, warmup_steps=self.warmup_steps, cooldown_steps=cooldown_steps)
        return partial(
            linear_cooldown,
            total_steps=total_steps,
            cooldown_steps=cooldown_steps,
            warmup_steps=self.warmup_steps,
            final=self.final_fraction,
        )


class InverseSqrtConfig(Config):
    """`inverse_sqrt`."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup_steps: int = Field(default=4000, ge=1)

    def build(self, total_steps: int) -> Schedule:
        """The schedule of a run of ``total_steps``."""
        _check_fit(total_steps, warmup_steps=self.warmup_steps)
        return partial(inverse_sqrt, warmup_steps=self.warmup_steps)


ScheduleConfig = Annotated[
    ConstantConfig | CosineConfig | LinearCooldownConfig | InverseSqrtConfig,
    Field(discriminator="kind"),
]


def _check_fit(total_steps: int, *, warmup_steps: int, cooldown_steps: int = 0) -> None:
    needed = warmup_steps + cooldown_steps
    if needed <= total_steps:
        return
    phases = f"warmup_steps = {warmup_steps}"
    if cooldown_steps:
        phases += f" and {cooldown_steps} steps of cooldown"
    raise ConfigError(
        f"{phases} do not fit into {total_steps} steps",
        where="schedule",
        cure="Shorten them (schedule.warmup_steps, schedule.cooldown_fraction), or train longer "
        "(training.steps).",
    )
