"""One trajectory: how a batch is cut, and what is recomputed, changes no more than rounding does.

Every configuration trains over the same 50 steps, on rows with very unequal numbers of labels.
The largest difference may be that of float32 sums taken in another order; the mean of the signed
differences, in which such noise cancels, has to be far smaller, so that a small systematic error
is seen where a large random one would be let through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest
import torch
from tiny_training import (
    MaskedBatches,
    TinyModel,
    tiny_batches,
    tiny_trainer,
    transformer,
)
from torch import Tensor, nn

from stemma.data import Batches
from stemma.training.contracts import BatchSource
from stemma.training.objective import Objective

STEPS = 50
LARGEST_LOSS, MEAN_LOSS = 5e-6, 3e-7
LARGEST_WEIGHT, MEAN_WEIGHT = 5e-6, 1e-8


class Trajectory(NamedTuple):
    losses: Tensor
    norms: Tensor
    weights: Tensor


def trajectory(
    *,
    model: nn.Module | None = None,
    dropout: float = 0.0,
    kind: type[Batches] = MaskedBatches,
    **changes: Any,
) -> Trajectory:
    return trajectory_of(model or TinyModel(dropout=dropout), tiny_batches(8, kind=kind), **changes)


def trajectory_of(model: nn.Module, batches: BatchSource, **changes: Any) -> Trajectory:
    """50 steps of a model over batches of 8."""
    reports: list[Any] = []
    trainer = tiny_trainer(
        model=model,
        batches=batches,
        batch_size=8,
        steps=STEPS,
        on_step=reports.append,
        **changes,
    )
    trainer.fit()
    return Trajectory(
        torch.tensor([report.loss for report in reports], dtype=torch.float64),
        torch.tensor([report.grad_norm for report in reports], dtype=torch.float64),
        torch.cat(
            [
                parameter.detach().flatten()
                for name, parameter in model.named_parameters()
                # softmax does not see what is added to all keys: the true gradient is 0, and Adam
                # makes full steps out of its rounding error.
                if not name.endswith("k_proj.bias")
            ]
        ).double(),
    )


def assert_one_trajectory(one: Trajectory, other: Trajectory) -> None:
    for name, largest, mean in (
        ("losses", LARGEST_LOSS, MEAN_LOSS),
        ("norms", LARGEST_LOSS, MEAN_LOSS),
        ("weights", LARGEST_WEIGHT, MEAN_WEIGHT),
    ):
        difference = getattr(one, name) - getattr(other, name)
        assert float(difference.abs().max()) < largest, f"largest difference of the {name}"
        assert abs(float(difference.mean())) < mean, f"mean drift of the {name}"


@pytest.fixture(scope="module")
def whole() -> Trajectory:
    return trajectory()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("recompute", [False, True])
def test_one_trajectory(whole: Trajectory, rows: int, recompute: bool) -> None:
    assert_one_trajectory(
        whole, trajectory(micro_batch_size=rows, activation_checkpointing=recompute)
    )


def test_it_goes_somewhere(whole: Trajectory) -> None:
    assert whole.losses[-5:].mean() < 0.8 * whole.losses[:5].mean()


def test_recomputing_keeps_dropout_to_the_bit() -> None:
    plain, recomputed = (
        trajectory(dropout=0.3),
        trajectory(dropout=0.3, activation_checkpointing=True),
    )
    assert torch.equal(plain.losses, recomputed.losses)
    assert torch.equal(plain.weights, recomputed.weights)


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_one_trajectory_of_a_transformer(name: str) -> None:
    whole = trajectory(model=transformer(name))
    for rows, recompute in ((1, False), (3, False), (8, True), (3, True)):
        other = trajectory(
            model=transformer(name), micro_batch_size=rows, activation_checkpointing=recompute
        )
        assert_one_trajectory(whole, other)


def mean_of_means(
    model: nn.Module,
    objective: Objective,
    parts: Sequence[Any],
    total_weight: float,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Tensor]:
    """The mistake of many a loop: each micro-batch is divided by its own number of labels."""
    total = torch.zeros(())
    for part in parts:
        terms = objective(model, part)
        loss = terms.loss_sum / terms.weight / len(parts)
        loss.backward()
        total += loss.detach()
    return {"loss": total}


def slightly_too_long(*args: Any) -> dict[str, Tensor]:
    """A systematic error of 1 in 20,000, much smaller than what one looks at in a loss curve."""
    from stemma.training.gradients import accumulate_gradients

    model, objective, parts, total_weight, autocast = args
    return accumulate_gradients(model, objective, parts, total_weight / 1.00005, autocast)


@pytest.mark.parametrize("wrong", [mean_of_means, slightly_too_long])
def test_a_wrong_normalisation_is_caught(
    whole: Trajectory, wrong: Callable[..., dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemma.training.loop.accumulate_gradients", wrong)
    for rows in (1, 2, 3):
        with pytest.raises(AssertionError, match=r"largest difference|mean drift"):
            assert_one_trajectory(whole, trajectory(micro_batch_size=rows))


def test_with_equal_label_counts_the_wrong_normalisation_would_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why the rows are masked: without that, this suite would see nothing."""
    right = trajectory(kind=Batches)
    monkeypatch.setattr("stemma.training.loop.accumulate_gradients", mean_of_means)
    assert_one_trajectory(right, trajectory(kind=Batches, micro_batch_size=2))
