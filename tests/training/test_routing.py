"""Training with experts: one trajectory however a batch is cut, and experts evenly used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_invariants import assert_one_trajectory, trajectory
from tiny_training import (
    CONTEXT_LENGTH,
    VOCAB_SIZE,
    MaskedBatches,
    TinyModel,
    tiny_batches,
    tiny_trainer,
)

from stemma.data import IGNORE_INDEX
from stemma.models import Transformer, TransformerConfig
from stemma.training.objective import NextToken
from stemma.training.routing import routing_losses


def sparse(**experts: Any) -> Transformer:
    return TransformerConfig.parse(
        {
            "vocab_size": VOCAB_SIZE,
            "context_length": CONTEXT_LENGTH,
            "d_model": 16,
            "n_layers": 2,
            "attention": {"n_heads": 2, "bias": False},
            "feedforward": {"kind": "moe", "d_ff": 16, "n_experts": 4, **experts},
            "norm": {"kind": "rms_norm"},
            "position": {"kind": "rotary"},
        }
    ).build(seed=1)


def gradients(model: Transformer, rows: int) -> torch.Tensor:
    batch = MaskedBatches(tiny_batches(8).windows, 8, 5).batch(0)
    objective = NextToken()
    weight = objective.weight(batch)
    model.zero_grad()
    for part in batch.split(rows):
        (objective(model, part).loss_sum / weight).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


EXPERTS: dict[str, Any] = {"balance_loss": 1.0, "z_loss": 0.1, "capacity_factor": 0.9}


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_batch_has_one_gradient_however_it_is_cut(rows: int) -> None:
    model = sparse(**EXPERTS)
    torch.testing.assert_close(gradients(model, rows), gradients(model, 8), rtol=1e-4, atol=1e-6)


def test_switchs_loss_depends_on_the_cut_and_says_so() -> None:
    """A product of two means over the batch at hand; what holds is one gradient for one cut."""
    model = sparse(**EXPERTS, balance_over="batch")
    assert not torch.allclose(gradients(model, 1), gradients(model, 8), rtol=1e-2, atol=1e-4)
    by_rows = sparse(**EXPERTS)
    torch.testing.assert_close(gradients(model, 1), gradients(by_rows, 1))


@pytest.mark.parametrize(("rows", "recompute"), [(1, False), (3, True), (8, True)])
def test_one_trajectory(rows: int, recompute: bool) -> None:
    whole = trajectory(model=sparse(**EXPERTS))
    other = trajectory(
        model=sparse(**EXPERTS), micro_batch_size=rows, activation_checkpointing=recompute
    )
    assert_one_trajectory(whole, other)


def test_the_terms_worked_out() -> None:
    model = sparse(balance_loss=0.5, z_loss=0.25)
    batch = MaskedBatches(tiny_batches(8).windows, 8, 5).batch(0)
    plain = NextToken()(sparse(balance_loss=0.0), batch)
    terms = NextToken()(model, batch)
    labels = (batch.labels != IGNORE_INDEX).sum(-1)
    routings = [block.feedforward.routing for block in model.blocks]
    balance = sum((r.balance_loss() * labels).sum() for r in routings)
    z = sum((r.z_loss() * labels).sum() for r in routings)
    torch.testing.assert_close(terms.loss_sum, plain.loss_sum + 0.5 * balance + 0.25 * z)
    torch.testing.assert_close(terms.metrics["cross_entropy"], plain.loss_sum)
    assert plain.loss_sum == plain.metrics["cross_entropy"]
    weight = terms.weight
    assert (terms.metrics["balance"] / weight).item() == pytest.approx(balance.item() / weight / 2)
    assert (terms.metrics["max_load"] / weight).item() == pytest.approx(
        max(r.load.max().item() for r in routings)
    )
    assert terms.metrics["dropped"] == 0


def test_a_dense_model_has_no_terms_of_routing() -> None:
    assert routing_losses(TinyModel(), torch.ones(2)) is None
    batch = tiny_batches(4).batch(0)
    assert NextToken()(TinyModel(), batch).metrics == {}


@pytest.mark.parametrize("seed", range(3))
def test_the_balance_loss_lowers_the_largest_load(seed: int) -> None:
    def largest(balance_loss: float) -> float:
        reports: list[Any] = []
        model = sparse(balance_loss=balance_loss, n_experts=8, n_active=1, renormalize=False)
        with torch.no_grad():  # a router that begins far from even
            for block in model.blocks:
                torch.manual_seed(seed)
                block.feedforward.router.weight.normal_(std=0.5)
        trainer = tiny_trainer(
            model=model, batches=tiny_batches(8), batch_size=8, steps=80, on_step=reports.append
        )
        trainer.fit()
        assert {"cross_entropy", "balance", "max_load", "dropped"} <= reports[-1].metrics.keys()
        return sum(report.metrics["max_load"] for report in reports[-10:]) / 10

    assert largest(0.1) < largest(0.0) - 0.05
