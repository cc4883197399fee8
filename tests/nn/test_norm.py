"""LayerNorm and RMSNorm: worked by hand, against torch, against their formulas, invariances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stemma.nn import LayerNorm, LayerNormConfig, RMSNorm, RMSNormConfig
from stemma.nn.norm import layer_norm_formula, rms_norm_formula


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype).normal_(generator=torch.Generator().manual_seed(seed))


def test_layer_norm_worked_by_hand() -> None:
    # 1 2 3 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5, not 14 / 3.
    norm = LayerNorm(4, eps=0.5).requires_grad_(False)
    norm.weight.copy_(torch.tensor([1.0, 2.0, 1.0, 1.0]))
    norm.bias.copy_(torch.tensor([0.0, 0.0, 10.0, 0.0]))
    expected = torch.tensor([-2 / 2, 2 * -1 / 2, 10.0, 3 / 2])
    torch.testing.assert_close(norm(torch.tensor([1.0, 2.0, 3.0, 6.0])), expected)


def test_rms_norm_worked_by_hand() -> None:
    # 1 7: mean square 25, root 5.
    norm = RMSNorm(2, eps=1e-12).requires_grad_(False)
    norm.weight.copy_(torch.tensor([1.0, 10.0]))
    torch.testing.assert_close(norm(torch.tensor([1.0, 7.0])), torch.tensor([0.2, 14.0]))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs(bias: bool) -> None:
    ours, theirs = LayerNorm(24, bias=bias), torch.nn.LayerNorm(24, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = 3 * normal(5, 7, 24) + 1
    torch.testing.assert_close(ours(x), theirs(x))
    assert (ours.bias is not None) == bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_running_forms_are_their_formulas(dtype: torch.dtype) -> None:
    x, gain, bias = (
        normal(*s, seed=i, dtype=dtype) for i, s in enumerate([(3, 5, 16), (16,), (16,)])
    )
    layer, rms = LayerNorm(16).to(dtype), RMSNorm(16).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(gain)
        layer.bias.copy_(bias)
        rms.weight.copy_(gain)
    bits = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    close = {"rtol": bits, "atol": bits}
    torch.testing.assert_close(layer(x), layer_norm_formula(x, gain, bias, 1e-5), **close)
    torch.testing.assert_close(rms(x), rms_norm_formula(x, gain, 1e-6), **close)
    with torch.no_grad():
        torch.testing.assert_close(rms(x), rms_norm_formula(x, gain, 1e-6), **close)


def test_rms_norms_gradient_is_that_of_its_formula() -> None:
    x, weight, up = normal(3, 4, 8), normal(8, seed=1), normal(3, 4, 8, seed=2)
    norm = RMSNorm(8, eps=0.1)
    with torch.no_grad():
        norm.weight.copy_(weight)
    x.requires_grad_()
    weight.requires_grad_()
    expected = torch.autograd.grad(rms_norm_formula(x, weight, 0.1), (x, weight), up)
    found = torch.autograd.grad(norm(x), (x, norm.weight), up)
    torch.testing.assert_close(found, expected)


def test_rms_norms_gradient_by_differences() -> None:
    norm = RMSNorm(5, eps=1e-3).double()
    x = normal(2, 3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(norm, (x,))
    assert torch.autograd.gradcheck(lambda w: _with_gain(norm, x.detach(), w), (norm.weight,))


def _with_gain(norm: RMSNorm, x: Tensor, gain: Tensor) -> Tensor:
    return torch.func.functional_call(norm, {"weight": gain}, (x,))


def test_a_bfloat16_gradient_is_near_the_exact_one() -> None:
    x, up = normal(64, 32), normal(64, 32, seed=1)
    narrow = x.bfloat16().requires_grad_()
    norm = RMSNorm(32)
    found = torch.autograd.grad(norm(narrow), (narrow, norm.weight), up.bfloat16())
    wide = narrow.detach().double().requires_grad_()
    gain = torch.ones(32, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(rms_norm_formula(wide, gain, 1e-6), (wide, gain), up.double())
    assert found[0].dtype == torch.bfloat16
    assert found[1].dtype == torch.float32
    for ours, exact in zip(found, expected, strict=True):
        assert (ours - exact).norm() < 1e-2 * exact.norm()


@given(st.floats(0.01, 1000), st.floats(-50, 50), st.integers(0, 2**31))
def test_invariances(scale: float, shift: float, seed: int) -> None:
    # Ba et al., table 1, and Zhang & Sennrich, table 1: single cases scaled, all features shifted.
    x = normal(4, 12, seed=seed, dtype=torch.float64)
    layer, rms = LayerNorm(12, eps=1e-12).double(), RMSNorm(12, eps=1e-12).double()
    torch.testing.assert_close(layer(scale * x + shift), layer(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(rms(scale * x), rms(x), atol=1e-7, rtol=0)
    if abs(shift) > 1:
        assert (rms(x + shift) - rms(x)).abs().max() > 1e-3


@given(st.floats(0.1, 10), st.integers(0, 2**31))
def test_layer_norm_ignores_a_rescaled_and_recentred_weight_matrix(a: float, seed: int) -> None:
    W, x = (normal(*s, seed=seed + i, dtype=torch.float64) for i, s in enumerate([(9, 6), (4, 6)]))
    shift = normal(6, seed=seed + 2, dtype=torch.float64)
    norm = LayerNorm(9, eps=1e-12).double()
    torch.testing.assert_close(norm(x @ (a * W + shift).T), norm(x @ W.T), atol=1e-5, rtol=0)
    scaled_row = W.clone()
    scaled_row[0] *= 3
    assert (norm(x @ scaled_row.T) - norm(x @ W.T)).abs().max() > 1e-3


def test_a_row_does_not_depend_on_the_batch() -> None:
    x = normal(32, 16)
    for norm in (LayerNorm(16), RMSNorm(16)):
        torch.testing.assert_close(norm(x[3:4]), norm(x)[3:4], atol=1e-6, rtol=0)


def test_statistics_of_bfloat16_are_wide() -> None:
    # 2,000 ones summed in bfloat16 stop at 256.
    x = torch.ones(1, 2048, dtype=torch.bfloat16)
    assert RMSNorm(2048)(x).unique().tolist() == [1.0]


def test_configs_build_what_they_say() -> None:
    layer = LayerNormConfig(eps=0.25, bias=False).build(3)
    rms = RMSNormConfig(eps=0.5).build(3)
    assert (layer.eps, layer.bias, layer.weight.shape) == (0.25, None, (3,))
    assert (rms.eps, rms.weight.tolist()) == (0.5, [1, 1, 1])
    assert "eps=0.5" in repr(rms)
    assert "bias=False" in repr(layer)
    x = torch.ones(3)
    torch.testing.assert_close(rms(x), F.rms_norm(x, (3,), eps=0.5))
