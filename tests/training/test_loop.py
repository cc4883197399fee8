from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    MaskedBatches,
    TinyAdam,
    TinyModel,
    at_step,
    same,
    timeless,
    tiny_batches,
    tiny_trainer,
    warm_then_cool,
    weights,
)
from torch import Tensor, nn

from stemma.data import IGNORE_INDEX, Batch, Batches
from stemma.errors import CheckpointError, ConfigError, TrainingError
from stemma.training.checkpoint import CheckpointStore
from stemma.training.gradients import clip_gradients, gradient_norm
from stemma.training.loop import Trainer
from stemma.training.metrics import read_metrics
from stemma.training.objective import LossTerms, NextToken
from stemma.training.pace import Pace
from stemma.training.randomness import step_seed
from stemma.training.settings import TrainingConfig


def test_agrees_with_the_loop_everybody_writes() -> None:
    trainer = tiny_trainer(steps=20, dropout=0.0, clip_norm=0.5)
    trainer.fit()
    model, batches = TinyModel(), tiny_batches()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(20):
        batch = batches.batch(step)
        loss = nn.functional.cross_entropy(model(batch.ids).flatten(0, 1), batch.labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.param_groups[0]["lr"] = 1e-2 * warm_then_cool(step)
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def test_it_learns() -> None:
    losses: list[float] = []
    result = tiny_trainer(steps=80, on_step=lambda report: losses.append(report.loss)).fit()
    assert losses[0] == pytest.approx(math.log(19), abs=0.3)
    assert result.loss == losses[-1] < 0.6 * losses[0]
    assert not result.interrupted


def test_what_a_step_reports(tmp_path: Path) -> None:
    reports: list[Any] = []
    trainer = tiny_trainer(tmp_path, steps=7, on_step=reports.append, log_every=3)
    result = trainer.fit()
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6, 7]
    assert [report.tokens for report in reports] == [48 * step for step in range(1, 8)]
    assert reports[0].lr == pytest.approx(1e-3)
    assert reports[6].epoch == pytest.approx(7 * 4 / 37)
    assert all(report.tokens_per_second > 0 and report.grad_norm > 0 for report in reports)
    assert reports[6].seconds == result.seconds > reports[5].seconds > 0
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [3, 6, 7]
    assert set(rows[0]) == {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "tokens",
        "tokens_per_second",
        "seconds",
        "epoch",
    }
    assert rows[2]["loss"] == reports[6].loss


def test_the_objectives_metrics_are_means_over_the_labels(tmp_path: Path) -> None:
    class Counting(NextToken):
        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            terms = super().__call__(model, batch)
            even = ((batch.labels % 2 == 0) & (batch.labels != IGNORE_INDEX)).sum()
            return LossTerms(terms.loss_sum, terms.weight, {"even": even})

    batches = tiny_batches(kind=MaskedBatches)
    tiny_trainer(tmp_path, steps=1, objective=Counting(), batches=batches, micro_batch_size=1).fit()
    labels = batches.batch(0).labels
    scored = labels[labels != IGNORE_INDEX]
    even = read_metrics(tmp_path / "metrics.jsonl")[0]["even"]
    assert even == pytest.approx(float((scored % 2 == 0).float().mean()))


def test_evaluation_at_the_start_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, bool, bool]] = []

    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        seen.append((step, model.training, torch.is_grad_enabled()))
        return {"bits_per_byte": 8.0 - step / 10}

    modes: list[bool] = []
    trainer = tiny_trainer(tmp_path, steps=7, evaluate=evaluate, evaluate_every=3, log_every=100)
    trainer.on_step = lambda report: modes.append(trainer.model.training)
    result = trainer.fit()
    assert seen == [(step, False, False) for step in (0, 3, 6, 7)]
    assert all(modes)
    assert result.evaluation == {"bits_per_byte": 7.3}
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "bits_per_byte" in row]
    assert [(row["step"], row["bits_per_byte"]) for row in rows] == [
        (0, 8.0),
        (3, 7.7),
        (6, 7.4),
        (7, 7.3),
    ]
    assert {"tokens", "seconds", "epoch"} <= set(rows[0])


def test_evaluation_does_not_disturb_training() -> None:
    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        return {"noise": float(torch.rand(()))}

    plain, watched = tiny_trainer(), tiny_trainer(evaluate=evaluate, evaluate_every=2)
    plain.fit()
    watched.fit()
    assert same(weights(plain), weights(watched))


def test_the_clock_stands_still_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("stemma.training.pace.time.perf_counter", lambda: now[0])

    class Slow(NextToken):
        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            now[0] += 2.0
            return super().__call__(model, batch)

    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        now[0] += 1000.0
        return {}

    rates: list[float] = []
    result = tiny_trainer(
        steps=4,
        objective=Slow(),
        evaluate=evaluate,
        evaluate_every=1,
        on_step=lambda report: rates.append(report.tokens_per_second),
    ).fit()
    assert result.seconds == 8.0
    assert rates == [24.0] * 4


def test_the_rate_is_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("stemma.training.pace.time.perf_counter", lambda: now[0])
    pace = Pace(2, seconds=100.0)
    assert pace.tokens_per_second == 0.0
    for spent in (50.0, 1.0, 3.0):
        with pace.step(10):
            now[0] += spent
    assert (pace.seconds, pace.tokens_per_second) == (154.0, 5.0)


def test_the_users_randomness_and_the_models_mode_are_left_alone() -> None:
    trainer = tiny_trainer(steps=3, dropout=0.5)
    trainer.model.eval()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    trainer.fit()
    assert torch.equal(torch.rand(3), expected)
    assert not trainer.model.training


def test_dropout_follows_the_seed_and_nothing_else() -> None:
    def trained(seed: int, users: int) -> dict[str, Tensor]:
        torch.manual_seed(users)
        trainer = tiny_trainer(steps=5, dropout=0.3, seed=seed)
        trainer.fit()
        return weights(trainer)

    assert same(trained(1, 2), trained(1, 3))
    assert not same(trained(1, 2), trained(2, 2))


def test_every_step_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_gradients_are_clipped_after_they_are_normalised() -> None:
    """Clipping each micro-batch's gradient, or the sum before the division, gives another one."""
    taken: list[Tensor] = []

    class Spy(TinyAdam):
        def step(self, closure: Any = None) -> None:
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            taken.append(torch.cat([g.flatten() for g in grads]))
            super().step(closure)

    norms: list[float] = []
    batches = tiny_batches(kind=MaskedBatches)
    model = TinyModel()
    trainer = tiny_trainer(
        steps=1, model=model, optimizer=Spy(model), batches=batches, micro_batch_size=1
    )
    trainer.config = trainer.config.replace(clip_norm=0.05)
    trainer.on_step = lambda report: norms.append(report.grad_norm)
    trainer.fit()
    fresh, batch = TinyModel(), batches.batch(0)
    loss = nn.functional.cross_entropy(
        fresh(batch.ids).flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORE_INDEX
    )
    loss.backward()
    whole = torch.cat([p.grad.flatten() for p in fresh.parameters() if p.grad is not None])
    assert norms[0] == pytest.approx(float(whole.norm()), rel=1e-5)
    assert norms[0] > 0.05
    torch.testing.assert_close(taken[0], whole * 0.05 / whole.norm(), rtol=1e-4, atol=1e-8)


def test_clipping_by_hand() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([0.0, 4.0])
    assert float(gradient_norm([a, b])) == 5.0
    clip_gradients([a, b], 5.0, 5.0)
    assert a.grad.tolist() == [3.0]
    clip_gradients([a, b], 5.0, 1.0)
    torch.testing.assert_close(b.grad, torch.tensor([0.0, 0.8]))


class Planted(NextToken):
    """A loss that is no number at one step: the batch whose ids are those of ``bad``."""

    def __init__(self, bad: Batch, value: float) -> None:
        super().__init__()
        self.bad, self.value = bad.ids, value

    def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
        terms = super().__call__(model, batch)
        if torch.equal(batch.ids, self.bad[: len(batch.ids)]):
            return LossTerms(terms.loss_sum * self.value, terms.weight)
        return terms


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_step(tmp_path: Path, value: float) -> None:
    good = tiny_trainer(tmp_path / "good", steps=6)
    good.fit()
    batches = tiny_batches()
    trainer = tiny_trainer(
        tmp_path / "bad", checkpoint_every=5, objective=Planted(batches.batch(6), value)
    )
    with pytest.raises(TrainingError) as caught:
        trainer.fit()
    assert same(weights(trainer), weights(good))
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    store = CheckpointStore(tmp_path / "bad" / "checkpoints")
    assert store.steps() == [5, 6]
    saved = store.load(6).tensors
    for name, tensor in CheckpointStore(tmp_path / "good" / "checkpoints").load(6).tensors.items():
        assert torch.equal(saved[name], tensor)

    message = str(caught.value)
    windows = batches.windows_of(6)[0][1].tolist()
    assert "step 7 (batch 6" in message
    assert ", ".join(map(str, windows)) in message
    assert "checkpoint of step 6" in message
    assert "lower learning rate" in message
    batch_file = tmp_path / "bad" / "checkpoints" / "batch-000006.safetensors"
    assert str(batch_file) in message
    held = load_file(batch_file)
    assert torch.equal(held["ids"], batches.batch(6).ids)
    assert torch.equal(held["labels"], batches.batch(6).labels)
    assert held["windows"][:, 1].tolist() == windows
    assert [row["step"] for row in read_metrics(tmp_path / "bad" / "metrics.jsonl")][-1] == 6


def test_after_the_cure_it_goes_on_from_the_last_good_state(tmp_path: Path) -> None:
    undisturbed = tiny_trainer(tmp_path / "a", steps=12)
    undisturbed.fit()
    objective = Planted(tiny_batches().batch(6), float("nan"))
    with pytest.raises(TrainingError):
        tiny_trainer(tmp_path / "b", steps=12, objective=objective).fit()
    cured = tiny_trainer(tmp_path / "b", steps=12)
    assert cured.fit().resumed_from == 6
    assert same(weights(cured), weights(undisturbed))


def test_a_gradient_that_is_no_number_under_a_good_loss_stops_too(tmp_path: Path) -> None:
    class Cursed(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * float("inf")

    class BadGradient(NextToken):
        calls = 0

        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            self.calls += 1
            terms = super().__call__(model, batch)
            loss = Cursed.apply(terms.loss_sum) if self.calls == 3 else terms.loss_sum
            return LossTerms(loss, terms.weight)

    trainer = tiny_trainer(tmp_path, objective=BadGradient())
    with pytest.raises(TrainingError, match=r"gradient norm (nan|inf): stopped before"):
        trainer.fit()
    assert trainer.checkpoints is not None
    assert trainer.checkpoints.latest() == 2


def test_weights_that_are_no_numbers_are_not_saved_as_a_good_state(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, checkpoint_every=2)

    def ruin() -> None:
        with torch.no_grad():
            trainer.model.head.weight[0, 0] = float("inf")  # type: ignore[union-attr, index, operator]

    trainer.on_step = at_step(3, ruin)
    with pytest.raises(TrainingError, match="no numbers already; the last checkpoint is of step 2"):
        trainer.fit()
    assert trainer.checkpoints is not None
    assert trainer.checkpoints.steps() == [2]


def test_without_a_store_a_bad_loss_still_names_step_and_windows() -> None:
    objective = Planted(tiny_batches().batch(2), float("nan"))
    with pytest.raises(TrainingError, match=r"step 3 \(batch 2, epoch 0: windows"):
        tiny_trainer(objective=objective).fit()


def test_a_batch_without_labels_is_named() -> None:
    class Unlabelled(Batches):
        def batch(self, step: int, **ranks: Any) -> Batch:
            batch = super().batch(step, **ranks)
            hidden = torch.full_like(batch.labels, IGNORE_INDEX)
            return Batch(batch.ids, hidden if step == 4 else batch.labels)

    with pytest.raises(TrainingError, match="no label") as caught:
        tiny_trainer(batches=tiny_batches(kind=Unlabelled)).fit()
    assert "step 5 (batch 4)" in str(caught.value)


def press(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_exactly(tmp_path: Path, number: signal.Signals) -> None:
    undisturbed = tiny_trainer(tmp_path / "a", steps=15)
    undisturbed.fit()
    earlier = signal.getsignal(number)
    first = tiny_trainer(tmp_path / "b", steps=15, on_step=at_step(5, lambda: press(number)))
    result = first.fit()
    assert (result.interrupted, result.step) == (True, 5)
    assert signal.getsignal(number) is earlier
    second = tiny_trainer(tmp_path / "b", steps=15)
    rest = second.fit()
    assert (rest.interrupted, rest.step, rest.resumed_from) == (False, 15, 5)
    assert rest.seconds > result.seconds
    assert rest.tokens == 15 * 48
    assert same(weights(second), weights(undisturbed))
    assert timeless(tmp_path / "b" / "metrics.jsonl") == timeless(tmp_path / "a" / "metrics.jsonl")


def test_an_evaluation_that_a_signal_prevented_is_made_up_for(tmp_path: Path) -> None:
    def measured(directory: Path, **changes: Any) -> None:
        tiny_trainer(
            directory,
            steps=6,
            evaluate=lambda model, step: {"at": float(step)},
            evaluate_every=3,
            **changes,
        ).fit()

    measured(tmp_path / "a")
    for step in (3, 6):
        run = tmp_path / f"b{step}"
        measured(run, on_step=at_step(step, press))
        assert "at" not in timeless(run / "metrics.jsonl")[-1]
        measured(run)
        measured(run)
        assert timeless(run / "metrics.jsonl") == timeless(tmp_path / "a" / "metrics.jsonl")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        press()
        press()

    trainer = tiny_trainer(tmp_path, on_step=at_step(5, twice), checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.checkpoints is not None
    assert trainer.checkpoints.steps() == [3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_trains_outside_the_main_thread() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(tiny_trainer(steps=3).fit()))
    thread.start()
    thread.join()
    assert results[0].step == 3


def test_handlers_are_restored_after_an_error() -> None:
    earlier = signal.getsignal(signal.SIGINT)

    def fail() -> None:
        raise RuntimeError("from a callback")

    with pytest.raises(RuntimeError, match="from a callback"):
        tiny_trainer(on_step=at_step(2, fail)).fit()
    assert signal.getsignal(signal.SIGINT) is earlier


def test_batch_sizes_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match="batches of 4 rows, and batch_size = 8"):
        tiny_trainer(batches=tiny_batches(4), batch_size=8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"micro_batch_size": 9}, "micro_batch_size 9 is more than batch_size 8"),
        ({"clip_norm": 0.0}, "clip_norm = 0.0"),
        ({"precision": "float8"}, "precision = 'float8'"),
        ({"step": 4}, "Did you mean 'steps'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.parse({"steps": 10, "batch_size": 8, **values})


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, steps=3).fit()
    with pytest.raises(CheckpointError, match="data_seed was 5, and is 6 now"):
        tiny_trainer(tmp_path, batches=tiny_batches(seed=6)).fit()
    with pytest.raises(CheckpointError, match="batch_size was 4, and is 8 now"):
        tiny_trainer(tmp_path, batch_size=8).fit()
    with pytest.raises(CheckpointError, match=r"'embed.weight' is \(19, 16\) float32"):
        tiny_trainer(tmp_path, model=TinyModel(width=8)).fit()
    with pytest.raises(CheckpointError, match="without a checkpoint store"):
        tiny_trainer().fit(from_step=3)


def test_micro_batches_are_the_rows_in_order() -> None:
    seen: list[np.ndarray] = []

    class Watching(NextToken):
        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            seen.append(batch.ids.numpy())
            return super().__call__(model, batch)

    tiny_trainer(steps=1, micro_batch_size=3, objective=Watching()).fit()
    assert [len(part) for part in seen] == [3, 1]
    assert np.array_equal(np.concatenate(seen), tiny_batches().batch(0).ids.numpy())


def test_a_trainer_can_be_fitted_without_anything_optional() -> None:
    model = TinyModel()
    config = TrainingConfig(steps=2, batch_size=4, precision="float32")
    result = Trainer(
        model, NextToken(), tiny_batches(), TinyAdam(model), warm_then_cool, config
    ).fit()
    assert (result.step, result.tokens, result.evaluation) == (2, 96, {})
