"""The one loop: batches x model -> weights, for every objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import nn

from stemma.errors import CheckpointError, ConfigError, TrainingError
from stemma.training.checkpoint import CheckpointStore
from stemma.training.contracts import BatchSource, Optimizer, Schedule, TrainingBatch
from stemma.training.failure import all_finite, not_a_number, save_batch
from stemma.training.gradients import accumulate_gradients, clip_gradients, gradient_norm
from stemma.training.interrupt import Interrupt
from stemma.training.metrics import MetricsLog
from stemma.training.objective import Objective
from stemma.training.pace import Pace
from stemma.training.preparation import prepare
from stemma.training.randomness import private_randomness, seed_dropout
from stemma.training.report import Progress, StepReport, TrainingResult
from stemma.training.settings import TrainingConfig
from stemma.training.state import collect_state, restore_state

Evaluate = Callable[[nn.Module, int], Mapping[str, float]]


class Trainer:
    """Trains a model; a run that was stopped at any moment goes on as if it had not been.

    Args:
        model: on ``device`` already, as are the optimizer's parameters.
        objective: what is minimised.
        batches: the data, a pure function of the step.
        optimizer: has the model's parameters.
        schedule: the learning rates' factor at each step.
        config: how long, and in what pieces.
        device: where the batches go.
        checkpoints: where training states are kept; without it nothing can be resumed.
        metrics: where a line is written every ``log_every`` steps and for each evaluation.
        evaluate: ``(model, step) -> numbers``; called in evaluation mode, without gradients and in
            the precision of training.
        on_step: called after each step.

    Raises:
        ConfigError: if ``batches`` and ``config`` disagree about the batch size.
    """

    def __init__(  # noqa: PLR0917 - what every training is made of
        self,
        model: nn.Module,
        objective: Objective,
        batches: BatchSource,
        optimizer: Optimizer,
        schedule: Schedule,
        config: TrainingConfig,
        *,
        device: torch.device | str = "cpu",
        checkpoints: CheckpointStore | None = None,
        metrics: MetricsLog | None = None,
        evaluate: Evaluate | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        if batches.batch_size != config.batch_size:
            raise ConfigError(
                f"batches of {batches.batch_size} rows, and batch_size = {config.batch_size}"
            )
        self.model = model
        self.objective = objective
        self.batches = batches
        self.optimizer = optimizer
        self.schedule = schedule
        self.config = config
        self.device = torch.device(device)
        self.checkpoints = checkpoints
        self.metrics = metrics
        self.evaluate = evaluate
        self.on_step = on_step
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._forward, self._autocast = prepare(model, config, self.device)

    def fit(self, *, from_step: int | None = None) -> TrainingResult:
        """Train to the last step.

        Continues from the newest checkpoint, or from that of ``from_step``; starts anew if there is
        none. SIGINT and SIGTERM (Ctrl-C) end it after the current step, with a checkpoint; a second
        one ends it at once.

        Raises:
            TrainingError: if a loss or a gradient is not finite. The weights are those before that
                step, and so is the checkpoint on the disk.
            CheckpointError: if a checkpoint is damaged, of another run, or cannot be written.
        """
        was_training = self.model.training
        with private_randomness(self.device), Interrupt() as interrupt:
            resumed_from = self._begin(from_step)
            try:
                self._run(interrupt)
            finally:
                self.optimizer.zero_grad()
                self.model.train(was_training)
                if self.metrics is not None:
                    self.metrics.close()
        progress = self._progress
        return TrainingResult(
            step=progress.step,
            loss=progress.loss,
            evaluation=dict(progress.evaluation),
            tokens=progress.tokens,
            seconds=progress.seconds,
            interrupted=interrupt.requested,
            resumed_from=resumed_from,
        )

    def _begin(self, from_step: int | None) -> int | None:
        store = self.checkpoints
        step = from_step if from_step is not None or store is None else store.latest()
        self._progress = Progress()
        if step is not None:
            self._restore(step)
        self._saved = None if step is None else (step, self._progress.evaluated_at)
        self._pace = Pace(max(self.config.log_every, 10), self._progress.seconds)
        self._ahead: tuple[int, TrainingBatch] | None = None
        if self.metrics is not None:
            self.metrics.rewind(-1 if step is None else step)
        self.optimizer.zero_grad()
        self.model.train()
        return step

    def _run(self, interrupt: Interrupt) -> None:
        config, progress = self.config, self._progress
        self._evaluate_if_due()
        while progress.step < config.steps and not interrupt.requested:
            report = self._step()
            if self.metrics is not None and _due(progress.step, config.log_every, config.steps):
                self.metrics.append(report.line())
            if self.on_step is not None:
                self.on_step(report)
            if not interrupt.requested:
                self._evaluate_if_due()
            if _due(progress.step, config.checkpoint_every, config.steps):
                self._save()
        self._save()

    def _step(self) -> StepReport:
        step, progress = self._progress.step, self._progress
        batch = self._take(step)
        tokens = batch.ids.numel()
        with self._pace.step(tokens):
            means = self._compute_gradients(step, batch)
            norm = means["grad_norm"]
            if not (math.isfinite(means["loss"]) and math.isfinite(norm)):
                raise self._stop_before(step, batch, means["loss"], norm)
            if self.config.clip_norm is not None:
                clip_gradients(self._parameters, norm, self.config.clip_norm)
            lr = self._set_learning_rate(step)
            self.optimizer.step()
            self.optimizer.zero_grad()
        progress.step, progress.loss = step + 1, means["loss"]
        progress.tokens += tokens
        progress.seconds = self._pace.seconds
        return StepReport(
            step=progress.step,
            steps=self.config.steps,
            loss=means.pop("loss"),
            lr=lr,
            grad_norm=means.pop("grad_norm"),
            tokens=progress.tokens,
            tokens_per_second=self._pace.tokens_per_second,
            seconds=progress.seconds,
            epoch=progress.step / self.batches.steps_per_epoch,
            metrics=means,
        )

    def _compute_gradients(self, step: int, batch: TrainingBatch) -> dict[str, float]:
        """Loss, gradient norm and the objective's metrics, read from the device once."""
        weight = float(self.objective.weight(batch))
        if weight == 0:
            raise TrainingError(
                "no label of the batch is to be scored",
                where=f"step {step + 1} (batch {step})",
                cure="Look at how the labels are masked.",
            )
        seed_dropout(self.config.seed, step, self.device)
        rows = self.config.micro_batch_size or self.config.batch_size
        parts = batch.to(self.device).split(rows)
        means = accumulate_gradients(self._forward, self.objective, parts, weight, self._autocast)
        means["grad_norm"] = gradient_norm(self._parameters)
        # The device still computes: the next batch costs nothing when it is made now.
        self._look_ahead(step + 1)
        values: list[float] = torch.stack([mean.float() for mean in means.values()]).tolist()
        return dict(zip(means, values, strict=True))

    def _take(self, step: int) -> TrainingBatch:
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead is not None and ahead[0] == step else self.batches.batch(step)

    def _look_ahead(self, step: int) -> None:
        if step < self.config.steps and self.device.type != "cpu":
            self._ahead = (step, self.batches.batch(step))

    def _set_learning_rate(self, step: int) -> float:
        factor = self.schedule(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _evaluate_if_due(self) -> None:
        progress, config = self._progress, self.config
        due = progress.step == 0 or _due(progress.step, config.evaluate_every, config.steps)
        if self.evaluate is None or not due or progress.evaluated_at == progress.step:
            return
        self.model.eval()
        with torch.no_grad(), self._autocast():
            found = dict(self.evaluate(self.model, progress.step))
        self.model.train()
        progress.evaluation, progress.evaluated_at = found, progress.step
        if self.metrics is not None:
            place = {
                "step": progress.step,
                "tokens": progress.tokens,
                "seconds": progress.seconds,
                "epoch": progress.step / self.batches.steps_per_epoch,
            }
            self.metrics.append({**place, **found})

    def _save(self) -> None:
        progress = self._progress
        if self.checkpoints is None or self._saved == (progress.step, progress.evaluated_at):
            return
        if not all_finite(self.model):
            raise self._weights_are_no_numbers()
        if self.metrics is not None:
            self.metrics.sync()
        facts = {"progress": asdict(progress), "run": self._identity()}
        tensors = collect_state(self.model, self.optimizer)
        self.checkpoints.save(progress.step, tensors, facts)
        self._saved = (progress.step, progress.evaluated_at)

    def _weights_are_no_numbers(self) -> TrainingError:
        last = None if self.checkpoints is None else self.checkpoints.latest()
        kept = "There is no checkpoint before." if last is None else f"Step {last} is kept."
        return TrainingError(
            f"the weights are not numbers any more, and are not saved. {kept}",
            where=f"after step {self._progress.step}",
            cure="Continue with a lower learning rate or a longer warm-up.",
        )

    def _restore(self, step: int) -> None:
        if self.checkpoints is None:
            raise CheckpointError(
                f"cannot continue from step {step} without a checkpoint store",
                cure="Give the Trainer checkpoints=CheckpointStore(directory).",
            )
        checkpoint = self.checkpoints.load(step)
        for name, ours in self._identity().items():
            theirs = checkpoint.facts["run"].get(name)
            if theirs != ours:
                raise CheckpointError(
                    f"of another run: {name} was {theirs}, and is {ours} now",
                    where=str(checkpoint.path),
                    cure=f"Continue with {name} = {theirs}, or start a new run.",
                )
        restore_state(self.model, self.optimizer, checkpoint.tensors, where=str(checkpoint.path))
        self._progress = Progress(**checkpoint.facts["progress"])

    def _identity(self) -> dict[str, int]:
        """What decides the data's order and dropout: another value makes another run."""
        return {
            "batch_size": self.config.batch_size,
            "data_seed": self.batches.seed,
            "seed": self.config.seed,
        }

    def _stop_before(
        self, step: int, batch: TrainingBatch, loss: float, norm: float
    ) -> TrainingError:
        self.optimizer.zero_grad()
        kept, batch_file = "No checkpoints are kept.", None
        if self.checkpoints is not None:
            kept = self._keep_good_state(self.checkpoints)
            batch_file = self.checkpoints.directory / f"batch-{step:06d}.safetensors"
            try:
                save_batch(batch, self.batches, step, batch_file)
            except OSError:
                batch_file = None
        return not_a_number(loss, norm, step, self.batches, kept=kept, batch_file=batch_file)

    def _keep_good_state(self, store: CheckpointStore) -> str:
        if not all_finite(self.model):
            last = store.latest()
            return (
                "The weights were no numbers already; there is no checkpoint before."
                if last is None
                else f"The weights were no numbers already; the last checkpoint is of step {last}."
            )
        try:
            self._save()
        except (CheckpointError, TrainingError) as error:
            return f"The last good state could not be saved: {error.what}."
        step = self._progress.step
        return f"The last good state is the checkpoint of step {step}, {store.path(step)}."


def _due(step: int, every: int | None, last: int) -> bool:
    return step == last or (every is not None and step % every == 0)
