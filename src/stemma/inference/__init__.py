"""Model -> text."""

from __future__ import annotations

from stemma.inference.sampling import (
    STYLES,
    SamplingConfig,
    apply_rules,
    apply_temperature,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    sample,
)
from stemma.inference.stopping import StopStrings

__all__ = [
    "STYLES",
    "SamplingConfig",
    "StopStrings",
    "apply_rules",
    "apply_temperature",
    "draw",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "penalise_repetition",
    "sample",
]
