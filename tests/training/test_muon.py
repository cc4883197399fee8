"""Muon: singular values, the polar factor, torch's own Muon, batches, momentum by step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma.errors import ConfigError
from stemma.training.optimizers import Muon, orthogonalize
from stemma.training.optimizers.muon import COEFFICIENTS, momentum_at, update_scale

SPECTRA = {
    "even": lambda n, low: torch.linspace(1, low, n),
    "geometric": lambda n, low: low ** torch.linspace(0, 1, n),
    "one large": lambda n, low: torch.cat([torch.ones(1), torch.full((n - 1,), low)]),
    "half large": lambda n, low: torch.cat([torch.ones(n // 2), torch.full((n - n // 2,), low)]),
}


def random_matrix(rows: int, columns: int, singular_values: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    n = min(rows, columns)
    U = torch.linalg.qr(torch.randn(rows, n, generator=generator, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(columns, n, generator=generator, dtype=torch.float64))[0]
    return ((U * singular_values.double()) @ V.mT).float()


def singular_values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("condition", [2, 10, 100])
@pytest.mark.parametrize("shape", [(48, 48), (32, 80), (80, 32), (2, 5)])
def test_five_steps_bring_the_singular_values_near_one(
    shape: tuple[int, int], condition: int, spectrum: str, dtype: torch.dtype
) -> None:
    G = random_matrix(*shape, SPECTRA[spectrum](min(shape), 1 / condition))
    found = singular_values(orthogonalize(G[None] * 37, dtype=dtype)[0])
    assert found.min() > 0.65
    assert found.max() < 1.25


def test_what_the_docstring_says_of_small_singular_values() -> None:
    def five_steps(x: Tensor) -> Tensor:
        a, b, c = COEFFICIENTS
        for _ in range(5):
            x = a * x + b * x**3 + c * x**5
        return x

    whole = five_steps(torch.linspace(0.0015, 1, 1_000_000, dtype=torch.float64))
    assert whole.min() > 0.65
    assert whole.max() < 1.25
    assert five_steps(torch.tensor(1e-4)).item() == pytest.approx(0.05, abs=0.005)


@given(st.integers(0, 2**31), st.sampled_from([(24, 24), (16, 40), (40, 16)]))
@settings(max_examples=15)
def test_the_result_points_where_the_polar_factor_does(seed: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    G = torch.randn(shape, generator=generator)
    U, S, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    ours = orthogonalize(G[None], dtype=torch.float64)[0].double()
    inside = U.mT @ ours @ Vh.mT  # U S' V^T has the diagonal S', exactly
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-6)
    expected, (a, b, c) = S / torch.linalg.matrix_norm(G.double()), COEFFICIENTS
    for _ in range(5):
        expected = a * expected + b * expected**3 + c * expected**5
    torch.testing.assert_close(inside.diagonal(), expected, rtol=1e-4, atol=1e-4)
    polar = U @ Vh
    cosine = (ours * polar).sum() / (ours.norm() * polar.norm())
    assert cosine > (0.9 if S.min() / S.norm() < 0.0015 else 0.97)


@given(st.floats(1e-10, 1e15), st.integers(0, 2**31))
@settings(max_examples=20)
def test_the_scale_of_the_input_does_not_matter(scale: float, seed: int) -> None:
    G = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(orthogonalize(G * scale), orthogonalize(G), rtol=1e-3, atol=1e-4)


def test_zeros_stay_zeros() -> None:
    assert orthogonalize(torch.zeros(2, 3, 4)).abs().max() == 0


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_a_batch_equals_its_matrices_one_by_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    G = torch.randn(5, *shape, generator=generator) * torch.logspace(-6, 3, 5)[:, None, None]
    one_by_one = torch.cat([orthogonalize(matrix[None]) for matrix in G])
    torch.testing.assert_close(orthogonalize(G), one_by_one, rtol=1e-4, atol=1e-5)


def test_momentum_rises_in_a_straight_line_and_depends_on_the_step_alone() -> None:
    assert momentum_at(0, 0.85, 0.95, 300) == 0.85
    assert momentum_at(150, 0.85, 0.95, 300) == pytest.approx(0.90)
    assert momentum_at(300, 0.85, 0.95, 300) == momentum_at(10**6, 0.85, 0.95, 300) == 0.95
    assert momentum_at(0, 0.85, 0.95, 0) == 0.95


def test_scales_by_hand() -> None:
    assert update_scale(400, 100, "original") == 2
    assert update_scale(100, 400, "original") == 1
    assert update_scale(100, 400, "match_rms_adamw") == pytest.approx(4)
    assert update_scale(400, 100, "match_rms_adamw") == pytest.approx(4)


def matrices(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(8, 8), (20, 8), (8, 20), (8, 8), (20, 8)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_gradients(own: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(77 + step)
    for parameter in own:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_equal_torchs_muon(scale: str, nesterov: bool) -> None:
    ours, theirs = matrices(), matrices()
    mine = Muon(
        ours,
        lr=0.02,
        weight_decay=0.1,
        warmup_steps=0,
        nesterov=nesterov,
        scale=scale,
        dtype=torch.bfloat16,
    )
    reference = torch.optim.Muon(
        theirs,
        lr=0.02,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=nesterov,
        adjust_lr_fn=scale,
    )
    before = matrices()
    for step in range(10):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        mine.step()
        reference.step()
    for start, a, b in zip(before, ours, theirs, strict=True):
        # Both compute in bfloat16, but round in another order.
        assert (a - b).norm() < 0.02 * (b - start).norm()


def test_stacked_updates_equal_lone_ones() -> None:
    together, alone = matrices(), matrices()
    options = {"lr": 0.02, "weight_decay": 0.1, "dtype": torch.float32}
    optimizers = [Muon([parameter], **options) for parameter in alone]
    joint = Muon(together, **options)
    for step in range(5):
        set_gradients(together, step)
        set_gradients(alone, step)
        joint.step()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_one_step_by_hand() -> None:
    """A diagonal gradient keeps its axes: the polynomial works on each entry by itself."""
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.diag(torch.tensor([3.0, -4.0]))
    Muon([weight], lr=0.5, newton_schulz_steps=1, dtype=torch.float32).step()
    a, b, c = COEFFICIENTS
    expected = [-0.5 * (a * x + b * x**3 + c * x**5) for x in (0.6, -0.8)]
    assert weight.diagonal().tolist() == pytest.approx(expected, abs=1e-5)
    assert weight[0, 1] == weight[1, 0] == 0


def test_gradients_are_left_as_they_were() -> None:
    own = matrices()
    set_gradients(own, 0)
    before = [p.grad.clone() for p in own if p.grad is not None]
    Muon(own, lr=0.02).step()
    assert all(torch.equal(p.grad, kept) for p, kept in zip(own, before, strict=True))


def test_a_matrix_without_gradient_stays_and_its_clock_too() -> None:
    own = matrices()
    late = nn.Parameter(own[3].detach().clone())
    options = {"lr": 0.02, "warmup_steps": 2, "momentum_start": 0.1, "dtype": torch.float32}
    optimizer, lone = Muon(own, **options), Muon([late], **options)
    set_gradients(own, 0)
    own[3].grad = None
    optimizer.step()
    assert torch.equal(own[3], late)
    for step in (1, 2):  # beside its like, which is a step ahead and has another momentum
        set_gradients(own, step)
        late.grad = own[3].grad
        optimizer.step()
        lone.step()
    assert optimizer.state[own[3]]["step"] == 2
    assert optimizer.state[own[0]]["step"] == 3
    torch.testing.assert_close(own[3], late, rtol=1e-4, atol=1e-5)


def test_a_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"matrices, not a parameter of shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 4, 6), (3, 5, 5)])
def test_each_matrix_of_a_stack_is_a_matrix_of_its_own(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    lone = [nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    gradient = torch.randn(shape) * torch.tensor([1.0, 100.0, 1e-4]).view(3, 1, 1)
    values = {"lr": 0.1, "weight_decay": 0.1, "dtype": torch.float32}
    together, apart = Muon([stack], **values), Muon(lone, **values)
    for _ in range(3):
        stack.grad = gradient.clone()
        for parameter, part in zip(lone, gradient, strict=True):
            parameter.grad = part.clone()
        together.step()
        apart.step()
    for matrix, parameter in zip(stack, lone, strict=True):
        torch.testing.assert_close(matrix, parameter)
