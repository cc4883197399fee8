"""A recipe becomes a run: stage after stage, each kept as soon as it is done.

A stage whose result is in the run directory already is not done again, so that continuing a run
and starting one are the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stemma.data import Batches, PackedDocuments, SlidingWindows, shipped_corpora
from stemma.data.windows import Windows
from stemma.evaluation import Evaluation, evaluate
from stemma.hub import save_model
from stemma.lab import figures, portrait
from stemma.lab.ancestors import measure_ancestors, on_the_ladder
from stemma.lab.card import write_card
from stemma.lab.console import Console
from stemma.lab.description import describe_text, describe_tokenizer
from stemma.lab.directory import Record, RunDirectory
from stemma.lab.environment import describe_environment, peak_memory_bytes
from stemma.lab.recipe import Recipe, load_recipe, settle
from stemma.lab.report import held_out_rows, ladder_rows, learning_note, write_report
from stemma.lab.text import Text, find_source, prepare_text, train_tokenizer
from stemma.models import Transformer
from stemma.tokenizers import Tokenizer
from stemma.training import (
    CheckpointStore,
    MetricsLog,
    NextToken,
    StepReport,
    Trainer,
    choose_dtype,
)

_MOST_BYTES_FOR_NGRAMS = 200_000_000
_LITTLE_TEXT = 100_000


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    directory: Path
    finished: bool
    record: Mapping[str, Any]

    @property
    def bits_per_byte(self) -> float | None:
        """Of the whole held-out text; None if training was interrupted."""
        evaluation = self.record.get("evaluation")
        return None if evaluation is None else float(evaluation["bits_per_byte"])


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    directory: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> RunResult:
    """Run a recipe: prepare its text, train its model, measure, sample, report.

    Args:
        recipe: the name of a shipped recipe, a TOML file, a table, or a `Recipe`.
        directory: where the run is kept; ``runs/<name>`` by default.
        overrides: ``"table.key=value"`` assignments.
        overwrite: replace a run that is there already.
        quiet: print nothing.

    Raises:
        ConfigError: if the recipe is not valid, or the directory holds a run already.
        DataError: if the text cannot be read.
        TrainingError: if the loss is not a number any more.
    """
    resolved = load_recipe(recipe, overrides)
    path = Path(directory) if directory is not None else Path("runs") / resolved.name
    console = Console(quiet=quiet)
    if resolved.data.source != "-":
        find_source(resolved.data.source)
    try:
        with RunDirectory.create(path, resolved, overwrite=overwrite) as run:
            stages = Stages(run, resolved, console)
            text = stages.prepare()
    except KeyboardInterrupt:
        console.say("\nInterrupted before the text was prepared; nothing was kept.")
        return RunResult(path, finished=False, record={})
    return stages.go(text)


def resume(
    directory: str | Path, *, overrides: Iterable[str] = (), quiet: bool = False
) -> RunResult:
    """Continue a run from its last checkpoint, or show again what a finished one came to.

    Args:
        directory: the run's.
        overrides: ``"table.key=value"`` assignments, for instance a lower learning rate.
        quiet: print nothing.

    Raises:
        ConfigError: if the directory is no run.
        CheckpointError: if the last checkpoint is damaged.
    """
    run, recipe = RunDirectory.open(Path(directory))
    recipe = load_recipe(recipe, overrides)
    stages = Stages(run, recipe, Console(quiet=quiet))
    return stages.go(stages.prepare())


class Stages:
    """The stages of one run, in order."""

    def __init__(self, run: RunDirectory, recipe: Recipe, console: Console) -> None:
        self.run = run
        self.recipe = recipe
        self.console = console
        self.record = Record(run)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = choose_dtype(self.device, recipe.training.precision)
        self._last_bits: float | None = None

    def go(self, text: Text) -> RunResult:
        """Do what is not done yet, once the text is prepared."""
        try:
            return self._go(text)
        except KeyboardInterrupt:
            self.console.say("\nInterrupted; what was finished is kept. Continue:")
            self.console.say(f"   stemma resume {self.run.path}", style="bold")
            return RunResult(self.run.path, finished=False, record=self.record.entries)

    def _go(self, text: Text) -> RunResult:
        self.record.save("title", f"{self.recipe.name}: a language model from raw text")
        self.record.save("environment", describe_environment(self.device))
        self.measure_ancestors(text)
        model = self.build_model(text.tokenizer)
        if not self.fit(model, text):
            return RunResult(self.run.path, finished=False, record=self.record.entries)
        self.evaluate(model, text)
        self.draw_portrait(model, text)
        self.export(model, text.tokenizer)
        with self.record.timed("report"):
            write_report(self.run, self.record)
        self.tell_result()
        return RunResult(self.run.path, finished=True, record=self.record.entries)

    def prepare(self) -> Text:
        """Text, tokenizer, shards."""
        self.console.stage("The text")
        with self.record.timed("tokenizer"):
            tokenizer = train_tokenizer(self.recipe, self.run)
        with self.record.timed("encoding"):
            text = prepare_text(self.recipe, self.run, tokenizer)
        self.recipe = settle(self.recipe, tokenizer.vocab_size, len(text.shards.train))
        self.run.write_recipe(self.recipe)
        if "text" not in self.record or "tokenizer" not in self.record:
            self.record.save("text", describe_text(text, self.recipe, self.run))
            self.record.save("tokenizer", describe_tokenizer(text, self.recipe))
        facts = self.record["text"]
        self.console.say(f"   {facts['note']}")
        if facts["train_bytes"] < _LITTLE_TEXT:
            self.console.say(
                f"   That is little: below {_LITTLE_TEXT // 1000} kB a model learns the text by "
                "heart and writes nothing of its own.",
                style="yellow",
            )
        self.console.quote(facts["excerpt"])
        self.console.stage("The tokenizer")
        self.console.say(f"   {self.record['tokenizer']['note']}")
        self.console.tokens([token["text"] for token in self.record["tokenizer"]["example"]])
        return text

    def measure_ancestors(self, text: Text) -> None:
        """N-grams on the same text."""
        n_bytes = text.shards.train.n_bytes
        if self.recipe.evaluation.ngram_order and n_bytes > _MOST_BYTES_FOR_NGRAMS:
            self.console.say(f"\nNo n-grams: they would count {n_bytes:,} bytes in memory.")
        if self.recipe.evaluation.ngram_order == 0 or n_bytes > _MOST_BYTES_FOR_NGRAMS:
            self.record.save("ancestors", [])
            return
        self.console.stage("The ancestors, in bits per byte of held-out text")
        if "ancestors" not in self.record:
            with self.record.timed("ancestors"):
                rows = measure_ancestors(text, self.recipe.evaluation.ngram_order)
            self.record.save("all_ancestors", rows)
            self.record.save("ancestors", on_the_ladder(rows))
        shown = self.record["ancestors"]
        best = min(range(len(shown)), key=lambda i: float(shown[i]["bits_per_byte"]))
        self.console.table(
            ["model", "bits per byte", "perplexity per byte"],
            [
                [row["name"], f"{row['bits_per_byte']:.3f}", f"{2 ** row['bits_per_byte']:.2f}"]
                for row in shown
            ],
            bold_row=best,
        )

    def build_model(self, tokenizer: Tokenizer) -> Transformer:
        """The recipe's model, initialised from the recipe's seed."""
        model = Transformer(self.recipe.model, seed=self.recipe.seed).to(self.device)
        parts = portrait.parts_of(model)
        parameters = sum(part["parameters"] for part in parts)
        self.record.save("model", {"parameters": parameters, "parts": parts})
        return model

    def fit(self, model: Transformer, text: Text) -> bool:
        """Train; false if interrupted."""
        recipe, settings = self.recipe, self.recipe.training
        parameters = self.record["model"]["parameters"]
        self.console.stage(f"The Transformer: {parameters:,} parameters, {settings.steps} steps")
        store = CheckpointStore(self.run.checkpoints, settings.keep_checkpoints)
        if latest := store.latest():
            self.console.say(f"   continuing from step {latest}")
        windows = self._windows(text)
        with self.console.progress("training", settings.steps) as line:

            def show(report: StepReport) -> None:
                measured = f", held out {self._last_bits:.3f} bits/byte" if self._last_bits else ""
                rate = f"{report.tokens_per_second:,.0f} tokens/s"
                line.update(report.step, f"loss {report.loss:.3f} nats{measured}, {rate}")

            trainer = Trainer(
                model,
                NextToken(),
                Batches(windows, settings.batch_size, recipe.seed),
                recipe.optimizer.build(model, device=self.device),
                recipe.schedule.build(settings.steps),
                settings,
                device=self.device,
                checkpoints=store,
                metrics=MetricsLog(self.run.metrics),
                evaluate=lambda _model, _step: self._measure_while_training(model, text),
                on_step=show,
            )
            with self.record.timed("training, and measuring meanwhile"):
                result = trainer.fit()
        if result.interrupted:
            self.console.say(f"\nInterrupted at step {result.step}; everything is saved. Continue:")
            self.console.say(f"   stemma resume {self.run.path}", style="bold")
            return False
        self.record.save(
            "training",
            {
                "steps": result.step,
                "seconds": result.seconds,
                "tokens": result.tokens,
                "tokens_per_second": result.tokens / result.seconds,
                "precision": str(self.precision).removeprefix("torch."),
                "peak_memory_bytes": peak_memory_bytes(),
            },
        )
        return True

    def evaluate(self, model: Transformer, text: Text) -> None:
        """The whole held-out text, with overlapping windows."""
        if "evaluation" in self.record:
            return
        stride = self.recipe.evaluation.stride or max(model.context_length // 2, 1)
        with self.record.timed("evaluation"):
            found = self._score(model, text, stride)
        self.record.save(
            "evaluation",
            {
                "loss": found.loss,
                "perplexity": found.perplexity,
                "bits_per_byte": found.bits_per_byte,
                "bits_per_byte_error": found.bits_per_byte_error,
                "n_tokens": found.n_tokens,
                "n_bytes": found.n_bytes,
                "context_length": found.context_length,
                "stride": found.stride,
            },
        )

    def draw_portrait(self, model: Transformer, text: Text) -> None:
        """Samples, a passage read, attention patterns."""
        self.console.stage("What it writes")
        if "samples" not in self.record:
            with self.record.timed("samples"):
                self._draw(model, text)
        for sample in self.record["samples"]:
            self.console.say(f"   {sample['name']}", style="bold cyan")
            self.console.quote("".join(token["text"] for token in sample["tokens"]))

    def _draw(self, model: Transformer, text: Text) -> None:
        model.eval()
        passage = portrait.read_passage(model, text)
        note = f"{text.shards.held_out.n_bytes:,} bytes were held out; this is a part of them."
        self.record.save("passage", {"note": note, "tokens": passage})
        weights, tokens = portrait.look(model, text)
        figures.save(figures.attention(weights), self.run.figures, "attention")
        self.record.save("looked_at", tokens)
        positions = portrait.position_similarity(model)
        if positions is not None:
            figures.save(figures.positions(positions), self.run.figures, "positions")
        first_words = "".join(token["text"] for token in passage[:6])
        self.record.save("first_words", " ".join(first_words.replace('"', " ").split()))
        samples = self.recipe.samples
        written = portrait.write_samples(model, text.tokenizer, samples, self.recipe.seed)
        self.record.save("samples", written)

    def export(self, model: Transformer, tokenizer: Tokenizer) -> None:
        """The model directory, in Hugging Face's layout."""
        if not self.run.model.exists():
            with self.record.timed("export"):
                save_model(model, tokenizer, self.run.model, card=write_card(self.record))

    def tell_result(self) -> None:
        """The ladder, where things are, and what to do next."""
        run, record = self.run, self.record
        self.console.stage("The ladder: bits per byte of held-out text")
        rows = ladder_rows(record, held_out_rows(run))
        self.console.table(
            ["model", "bits per byte", "passed after"],
            [[row["name"], f"{row['bits_per_byte']:.3f}", row["passed"]] for row in rows],
            bold_row=next(i for i, row in enumerate(rows) if row["kind"] == "transformer"),
        )
        self.console.say(f"\n   {learning_note(record, held_out_rows(run))}")
        self.console.stage("Where things are, and what to try next")
        self.console.say(f"   {run.report}  the whole story, in one page")
        self.console.say(f"   {run.model}  opens with transformers.AutoModelForCausalLM\n")
        prompt = record["samples"][0]["prompt"].strip() or record["first_words"]
        self.console.say(f'   stemma generate {run.path} "{prompt}"', style="bold")
        if record["text"]["source"] in shipped_corpora():
            self.console.say("   stemma quickstart --text my.txt", style="bold")
        self.console.say(
            f"   stemma train {run.recipe_file} --set model.n_layers=6 --output runs/deeper",
            style="bold",
        )

    def _windows(self, text: Text) -> Windows:
        train, context_length = text.shards.train, self.recipe.model.context_length
        if self.recipe.data.windows == "packed":
            return PackedDocuments(train, context_length)
        return SlidingWindows(train, context_length, phase_seed=self.recipe.seed)

    def _measure_while_training(self, model: Transformer, text: Text) -> dict[str, float]:
        found = self._score(model, text, model.context_length)
        self._last_bits = found.bits_per_byte
        return {"bits_per_byte": found.bits_per_byte, "held_out_loss": found.loss}

    def _score(self, model: Transformer, text: Text, stride: int) -> Evaluation:
        return evaluate(
            model,
            text.shards.held_out,
            start_token=text.tokenizer.end_of_text,
            stride=stride,
            batch_size=self.recipe.evaluation.batch_size,
            precision=self.precision,
            device=self.device,
        )
