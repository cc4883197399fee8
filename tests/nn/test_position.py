"""Rotary positions: distances alone matter, norms stay, Hugging Face's layout, float32 angles."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ModelError
from stemma.nn import (
    LearnedPositionsConfig,
    NoPositionsConfig,
    Rotary,
    RotaryConfig,
    Sinusoidal,
    SinusoidalPositionsConfig,
)
from stemma.nn.position import Rotation, apply_rotation

SEEDS = st.integers(0, 2**31)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def turned(x: Tensor, position: int, rotary: Rotary) -> Tensor:
    rotation = rotary(torch.tensor([position]))
    return apply_rotation(x.view(1, 1, 1, -1), rotation).flatten()


def test_worked_by_hand() -> None:
    # d = 4, theta = 100: pairs (0, 2) and (1, 3) turn by m and by m / 10.
    found = turned(torch.tensor([1.0, 0.0, 0.0, 2.0]), 3, Rotary(4, theta=100.0))
    a, b = torch.tensor(3.0), torch.tensor(0.3)
    torch.testing.assert_close(found, torch.stack([a.cos(), -2 * b.sin(), a.sin(), 2 * b.cos()]))


@given(SEEDS, st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_a_product_depends_on_the_distance_alone(seed: int, m: int, n: int, shift: int) -> None:
    q, k = normal(2, 16, seed=seed)
    rotary = Rotary(16)
    here = turned(q, m, rotary) @ turned(k, n, rotary)
    there = turned(q, m + shift, rotary) @ turned(k, n + shift, rotary)
    assert abs(here - there) < 1e-5 * max(1.0, float(q.norm() * k.norm())) * 10


@given(SEEDS, st.integers(0, 100_000))
def test_norms_stay(seed: int, position: int) -> None:
    x = normal(8, seed=seed)
    torch.testing.assert_close(turned(x, position, Rotary(8)).norm(), x.norm())


def test_position_zero_changes_nothing_and_others_do() -> None:
    x = normal(8)
    assert turned(x, 0, Rotary(8)).equal(x)
    assert (turned(x, 1, Rotary(8)) - x).abs().max() > 0.01


def test_it_is_hugging_faces() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    theta = 5000.0
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    positions = torch.arange(3, 20)
    q, k = normal(2, 2, 4, 17, 16).unbind()
    cos, sin = LlamaRotaryEmbedding(config)(q, positions[None])
    theirs = apply_rotary_pos_emb(q, k, cos, sin)
    rotation = Rotary(16, theta=theta)(positions)
    torch.testing.assert_close(apply_rotation(q, rotation), theirs[0])
    torch.testing.assert_close(apply_rotation(k, rotation), theirs[1])


def test_rows_may_stand_at_different_positions() -> None:
    x = normal(2, 3, 4, 8)
    rotary = Rotary(8)
    positions = torch.tensor([[0, 1, 2, 3], [5, 0, 1, 9]])
    together = apply_rotation(x, rotary(positions))
    for row in range(2):
        alone = apply_rotation(x[row : row + 1], rotary(positions[row]))
        assert together[row : row + 1].equal(alone)


def test_a_cast_of_the_model_does_not_round_the_angles() -> None:
    # In bfloat16 position 1,001 would be 1,000, whose rotation is another one.
    positions = torch.tensor([1001])
    narrow = Rotary(8).to(torch.bfloat16)(positions)
    assert narrow.cos.dtype == torch.float32
    assert narrow.cos.equal(Rotary(8)(positions).cos)
    exact = torch.tensor(1001.0, dtype=torch.float64)
    assert float(narrow.cos[0, 0]) == pytest.approx(float(exact.cos()), abs=1e-4)
    assert narrow.to(torch.bfloat16).sin.dtype == torch.bfloat16


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"d_head = 5 is odd.*choose an even d_head"):
        Rotary(5)


def test_each_scheme_acts_where_it_says() -> None:
    learned, rotary, none = LearnedPositionsConfig(), RotaryConfig(theta=7.0), NoPositionsConfig()
    table = learned.build_embedding(5, 8)
    assert table is not None
    assert table.weight.shape == (5, 8)
    assert learned.build_rotation(4) is None
    built = rotary.build_rotation(4)
    assert built is not None
    assert (built.theta, built.d_head, rotary.build_embedding(5, 8)) == (7.0, 4, None)
    assert none.build_embedding(5, 8) is None
    assert none.build_rotation(4) is None
    assert "theta=7.0" in repr(built)
    assert isinstance(built(torch.arange(3)), Rotation)


def test_sinusoids_by_hand() -> None:
    # d = 4: waves of angles m and m / 100.
    m = torch.tensor(3.0)
    angles = [m.sin(), m.cos(), (m / 100).sin(), (m / 100).cos()]
    torch.testing.assert_close(Sinusoidal(4)(torch.tensor([3]))[0], torch.stack(angles))
    halves = torch.stack([angles[0], angles[2], angles[1], angles[3]])
    torch.testing.assert_close(Sinusoidal(4, halves=True)(torch.tensor([3]))[0], halves)


def test_sinusoids_are_marians() -> None:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    table = MarianSinusoidalPositionalEmbedding(20, 12)
    table.weight = torch.nn.Parameter(table.create_weight())
    found = Sinusoidal(12, halves=True)(torch.arange(20))
    torch.testing.assert_close(found, table.weight, atol=1e-6, rtol=1e-5)


@given(st.integers(0, 500), st.integers(0, 50), st.sampled_from([2, 6, 16]))
def test_a_step_is_a_rotation_of_the_waves(position: int, step: int, d_model: int) -> None:
    """PE(p + k) = R_k PE(p), with the same R_k at every p."""
    here, there = Sinusoidal(d_model)(torch.tensor([position, position + step])).view(2, -1, 2)
    angle = step * 10_000.0 ** -(torch.arange(0, d_model, 2) / d_model)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack(
        [here[:, 0] * cos + here[:, 1] * sin, here[:, 1] * cos - here[:, 0] * sin], dim=-1
    )
    torch.testing.assert_close(there, turned, atol=1e-4, rtol=0)


def test_odd_waves_are_refused() -> None:
    with pytest.raises(ModelError, match="d_model = 5 is odd"):
        SinusoidalPositionsConfig().build_embedding(8, 5)
