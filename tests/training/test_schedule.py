"""Schedules: worked numbers, continuity, edges, and phases that do not fit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR

from stemma.errors import ConfigError
from stemma.training.schedule import Schedule, ScheduleConfig


def build(total_steps: int, **values: object) -> Schedule:
    return TypeAdapter(ScheduleConfig).validate_python(values).build(total_steps)


def course(total_steps: int, **values: object) -> list[float]:
    schedule = build(total_steps, **values)
    return [schedule(step) for step in range(total_steps)]


def test_constant_by_hand() -> None:
    assert course(6, kind="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert course(3, kind="constant") == [1, 1, 1]


def test_cosine_by_hand() -> None:
    found = course(6, kind="cosine", warmup_steps=2, final_fraction=0.1)
    # After the warm-up at x = 0, 1/4, 1/2, 3/4 of half a period between 1 and 0.1.
    quarter = 0.9 * 0.5 * math.sqrt(0.5)
    assert found == pytest.approx([0.5, 1, 1, 0.55 + quarter, 0.55, 0.55 - quarter])


def test_cosine_equals_torchs_scheduler() -> None:
    optimizer = optim.SGD([nn.Parameter(nn.Linear(1, 1).weight)], lr=1.0)
    theirs, scheduler = [], CosineAnnealingLR(optimizer, T_max=50, eta_min=0.2)
    for _ in range(50):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert course(50, kind="cosine", final_fraction=0.2) == pytest.approx(theirs, abs=1e-12)


def test_linear_cooldown_by_hand() -> None:
    found = course(10, kind="linear_cooldown", warmup_steps=2, cooldown_fraction=0.4)
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    found = course(4, kind="linear_cooldown", cooldown_fraction=1.0, final_fraction=0.2)
    assert found == pytest.approx([1, 0.8, 0.6, 0.4])


def test_inverse_sqrt_equals_the_papers_formula_up_to_its_peak() -> None:
    d_model, warmup = 512, 40

    def paper(step: int) -> float:  # equation 3, whose steps begin at 1
        return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)

    found = course(400, kind="inverse_sqrt", warmup_steps=warmup)
    expected = [paper(step + 1) / paper(warmup) for step in range(400)]
    assert found == pytest.approx(expected)
    assert found[159] == pytest.approx(0.5)


phases = st.fixed_dictionaries(
    {
        "total_steps": st.integers(1, 400),
        "warmup": st.floats(0, 1),
        "cooldown": st.floats(0, 1),
        "final": st.floats(0, 1),
        "kind": st.sampled_from(["constant", "cosine", "linear_cooldown", "inverse_sqrt"]),
    }
)


@given(phases)
def test_factors_stay_in_bounds_and_move_in_small_steps(phase: dict[str, float]) -> None:
    total, kind = int(phase["total_steps"]), phase["kind"]
    warmup = int(phase["warmup"] * total)
    values: dict[str, object] = {"kind": kind, "warmup_steps": warmup}
    final, decay_steps = 0.0, 0
    if kind == "linear_cooldown":
        fraction = min(phase["cooldown"], 1 - warmup / total)
        decay_steps = round(fraction * total)
        if warmup + decay_steps > total:
            return
        values |= {"cooldown_fraction": fraction, "final_fraction": phase["final"]}
    if kind == "cosine":
        values |= {"final_fraction": phase["final"]}
        decay_steps = total - warmup
    if kind == "inverse_sqrt":
        values["warmup_steps"] = warmup = max(1, warmup)
        decay_steps = 2 * warmup
    factors = course(total, **values)
    final = phase["final"] if "final_fraction" in values else 0.0
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == pytest.approx([(i + 1) / warmup for i in range(warmup)])
    assert all(factor >= final - 1e-12 for factor in factors[warmup:])
    after = factors[max(warmup - 1, 0) :]
    assert after == sorted(after, reverse=True)
    steepest = math.pi / 2 / decay_steps if decay_steps else 0.0
    assert all(a - b <= steepest + 1e-12 for a, b in pairwise(after))


def test_after_the_end_a_decay_stays_at_its_end() -> None:
    assert build(10, kind="cosine", final_fraction=0.1)(10_000) == pytest.approx(0.1)
    assert build(10, kind="linear_cooldown", final_fraction=0.3)(10_000) == pytest.approx(0.3)
    assert build(10, kind="linear_cooldown", cooldown_fraction=0.0)(9) == 1


def test_a_warmup_may_fill_the_run_but_not_exceed_it() -> None:
    for kind in ("constant", "cosine", "inverse_sqrt"):
        assert course(5, kind=kind, warmup_steps=5)[-1] == 1
        with pytest.raises(ConfigError, match="warmup_steps = 6 do not fit into 5 steps"):
            build(5, kind=kind, warmup_steps=6)


def test_warmup_and_cooldown_together_must_fit() -> None:
    with pytest.raises(ConfigError, match="warmup_steps = 4 and 7 steps of cooldown do not fit"):
        build(10, kind="linear_cooldown", warmup_steps=4, cooldown_fraction=0.7)
