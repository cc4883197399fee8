"""Scaled rotary positions against transformers, worked numbers, and what each way promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ConfigError
from stemma.models.rotary_json import write_rotary
from stemma.nn import (
    LinearScalingConfig,
    Llama3ScalingConfig,
    Rotary,
    RotaryConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)

FACTORS = st.floats(1, 40)
CONTEXTS = st.integers(2, 20_000)
SCALINGS = (
    st.builds(LinearScalingConfig, factor=FACTORS)
    | st.builds(
        Llama3ScalingConfig,
        factor=FACTORS,
        original_context=CONTEXTS,
        low_frequency=st.floats(0.5, 2),
        high_frequency=st.floats(2.5, 8),
    )
    | st.builds(
        YarnScalingConfig,
        factor=FACTORS,
        original_context=CONTEXTS,
        fast=st.floats(8, 64),
        slow=st.floats(0.5, 4),
        sharpness=st.none() | st.floats(0.5, 2),
        whole_pairs=st.booleans(),
    )
)


def angles(d_head: int, theta: float) -> Tensor:
    return theta ** -(torch.arange(0, d_head, 2) / d_head)


@given(SCALINGS, st.sampled_from([8, 64, 128]), st.sampled_from([10_000.0, 500_000.0]))
def test_transformers_scales_equally(
    scaling: RotaryScalingConfig, d_head: int, theta: float
) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters: dict[str, Any] = write_rotary(RotaryConfig(theta=theta, scaling=scaling))
    config = LlamaConfig(
        hidden_size=2 * d_head,
        num_attention_heads=2,
        max_position_embeddings=100_000,
        rope_parameters=parameters["rope_parameters"],
    )
    kind = parameters["rope_parameters"]["rope_type"]
    expected, gain = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    torch.testing.assert_close(scaling.scale(angles(d_head, theta), theta), expected)
    assert scaling.gain == pytest.approx(gain)


def test_linear_worked_by_hand() -> None:
    rotary = Rotary(4, theta=100.0, scaling=LinearScalingConfig(factor=2))
    plain = Rotary(4, theta=100.0)
    # Position 6 of the stretched is position 3 of the plain one.
    for scaled, expected in zip(rotary(torch.tensor([6])), plain(torch.tensor([3])), strict=True):
        torch.testing.assert_close(scaled, expected)


def test_llama3_worked_by_hand() -> None:
    # In 2 pi 100 positions pairs of 0.05, 0.025 and 0.005 radians turn 5, 2.5 and 0.5 times.
    scaling = Llama3ScalingConfig(factor=8, original_context=round(200 * math.pi))
    found = scaling.scale(torch.tensor([0.05, 0.025, 0.005]), 10_000.0)
    # Kept; half way between 1 and 4 turns: half of 0.025 and half of 0.025 / 8; divided by 8.
    expected = torch.tensor([0.05, 0.025 * (0.5 + 0.5 / 8), 0.005 / 8])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_yarn_worked_by_hand() -> None:
    # theta 100, 4 pairs: they turn by 1, 100^-1/4, 0.1, 100^-3/4 radians. A pair p turns
    # L 100^(-p/4) / 2 pi times: 16 times at p = 0 for L = 32 pi, 0.506 times at p = 3.
    scaling = YarnScalingConfig(
        factor=4, original_context=round(32 * math.pi), fast=16, slow=1.6, whole_pairs=False
    )
    found = scaling.scale(angles(8, 100.0), 100.0)
    # The ramp goes from p = 0 to p = 4 log_100(16 / 1.6) = 2: shares 0, 1/2, 1, 1 are stretched.
    plain = angles(8, 100.0)
    expected = plain * torch.tensor([1, 0.5 + 0.5 / 4, 1 / 4, 1 / 4])
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)
    assert scaling.gain == pytest.approx(0.1 * math.log(4) + 1)


@given(SCALINGS, st.sampled_from([8, 64]))
def test_no_angle_grows_and_none_falls_below_its_share(
    scaling: RotaryScalingConfig, d_head: int
) -> None:
    plain = angles(d_head, 10_000.0)
    scaled = scaling.scale(plain, 10_000.0)
    assert (scaled <= plain * (1 + 1e-6)).all()
    assert (scaled >= plain / scaling.factor * (1 - 1e-6)).all()


@given(SCALINGS, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_product_still_depends_on_the_distance_alone(
    scaling: RotaryScalingConfig, m: int, n: int, shift: int
) -> None:
    cos, sin = Rotary(8, scaling=scaling)(torch.tensor([m, n, m + shift, n + shift]))
    # cos(a - b) = cos a cos b + sin a sin b, times the gain of both.
    here, there = (cos[i] * cos[i + 1] + sin[i] * sin[i + 1] for i in (0, 2))
    torch.testing.assert_close(here, there, rtol=0, atol=2e-3 * scaling.gain**2)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kind": "linear", "factor": 0.5}, "factor"),
        ({"kind": "llama3", "factor": 2, "original_context": 0}, "original_context"),
        (
            {"kind": "llama3", "factor": 2, "original_context": 9, "low_frequency": 4},
            "high_frequency",
        ),
        ({"kind": "yarn", "factor": 2}, "original_context"),
        ({"kind": "ntk", "factor": 2}, "scaling"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        RotaryConfig.parse({"kind": "rotary", "scaling": values}, source="test")
