"""The head and the loss in one equal the head, then the loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemma.training import cross_entropy
from stemma.training.cross_entropy import linear_cross_entropy

IGNORED = -100


def make(n: int, d: int, vocab: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator, dtype=dtype)
    weight = torch.randn(vocab, d, generator=generator, dtype=dtype)
    labels = torch.randint(vocab, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def expected(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, labels, ignore_index=IGNORED, reduction="sum")


def test_by_hand() -> None:
    hidden = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    weight = torch.tensor([[math.log(3.0), 0.0], [0.0, 5.0]])
    # Logits (ln 3, 0) and (0, 0): probabilities 3/4 and 1/2 of the labels 0 and 1.
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]), ignore_index=IGNORED)
    assert loss.item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2), abs=1e-6)


@settings(max_examples=30)
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(2, 30), st.integers(0, 99), st.integers(1, 9)
)
def test_equals_torch_whatever_the_chunk(n: int, d: int, vocab: int, seed: int, rows: int) -> None:
    hidden, weight, labels = make(n, d, vocab, seed, torch.float64)
    reference = expected(hidden, weight, labels)
    gradients = torch.autograd.grad(3 * reference, [hidden, weight])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "_CHUNK_BYTES", 4 * vocab * rows)
        loss = linear_cross_entropy(hidden, weight, labels, ignore_index=IGNORED)
    ours = torch.autograd.grad(3 * loss, [hidden, weight])
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(ours, gradients)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, labels = make(12, 4, 7, 0, torch.float64)
    frozen = weight.detach()
    linear_cross_entropy(hidden, frozen, labels, ignore_index=IGNORED).backward()
    (reference,) = torch.autograd.grad(expected(hidden, weight, labels), [hidden])
    assert frozen.grad is None
    torch.testing.assert_close(hidden.grad, reference)


def test_huge_logits_stay_finite() -> None:
    hidden, weight, labels = make(8, 4, 7, 0, torch.float32)
    loss = linear_cross_entropy(hidden * 1e4, weight, labels, ignore_index=IGNORED)
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_autocast_computes_the_products_in_bfloat16_and_the_sum_in_float32() -> None:
    hidden, weight, labels = make(64, 32, 50, 0, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, labels, ignore_index=IGNORED)
    loss.backward()
    reference = expected(hidden.bfloat16().float(), weight.bfloat16().float(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference, rtol=5e-3, atol=0)
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
