"""The quickstart's work done by stemma and by its peers, interleaved in one run.

The same GPT-2-shaped model (4.3 M parameters, untied head, no dropout), the same token windows in
the same order, the same batches, on the same cores:

- **stemma**: its Transformer and its Trainer;
- **llms-from-scratch** (PyPI): its ``GPTModel`` and ``train_model_simple``;
- **transformers**: ``GPT2LMHeadModel`` and ``Trainer``.

Each contender runs in a process of its own, in turn, round after round, so that a busy machine
hurts all of them alike. Two questions:

``speed``: tokens per second with the same optimizer (AdamW) at equal precision.
``race``: seconds of training until the held-out loss is at the target, each with the optimizer
and the schedule that its users are told to take: Muon and AdamW with a linear cooldown for stemma,
as in the quickstart; AdamW at a constant rate for llms-from-scratch, whose loop has no schedule;
AdamW with linear decay, the Trainer's default, for transformers. A decay needs a horizon, so those
with one run several. The held-out loss is that of the first 128 windows of held-out text, from
float32 logits; taking it stands outside the clock.

    pip install 'stemma-llm[bench]' transformers && pip install --no-deps llms-from-scratch
    python benchmarks/quickstart.py speed
    python benchmarks/quickstart.py race
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

VOCAB, CONTEXT, D_MODEL, LAYERS, HEADS, BATCH = 2048, 256, 256, 4, 4, 16
CONTENDERS = ("stemma", "llms-from-scratch", "transformers")
WARMUP_STEPS = 3
HELD_OUT_WINDOWS = 128


class Clock:
    """Seconds of training: evaluation stands outside."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self._lost = 0.0

    def mark(self) -> None:
        self.marks.append(time.perf_counter() - self._lost)

    def outside(self, work: Callable[[], float]) -> float:
        started = time.perf_counter()
        found = work()
        self._lost += time.perf_counter() - started
        return found


def windows(data: Path, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, the same for every contender."""
    from stemma.data import Batches, SlidingWindows, TokenArray

    batches = Batches(SlidingWindows(TokenArray(np.load(data / "train.npy")), CONTEXT), BATCH)
    for step in range(steps):
        batch = batches.batch(step)
        yield batch.ids, batch.labels


class Watch:
    """What happens between two steps: the clock ticks, and in a race the held-out loss is taken."""

    def __init__(self, options: argparse.Namespace, logits: Callable[[Tensor], Tensor]) -> None:
        self.clock = Clock()
        self.options = options
        self.step = 0
        self.reached: float | None = None
        self.curve: list[tuple[float, float]] = []
        self._logits = logits
        self._held_out = torch.from_numpy(np.load(options.data / "heldout.npy").astype(np.int64))

    def between_steps(self) -> bool:
        """Record; whether the target is reached."""
        self.clock.mark()
        every = self.options.evaluate_every
        if every and self.step and self.step % every == 0:
            loss = self.clock.outside(self._measure)
            seconds = self.clock.marks[-1] - self.clock.marks[0]
            self.curve.append((seconds, loss))
            if loss <= self.options.target:
                self.reached = seconds
        self.step += 1
        return self.reached is not None

    @torch.no_grad()
    def _measure(self) -> float:
        n_windows = min((len(self._held_out) - 1) // CONTEXT, HELD_OUT_WINDOWS)
        rows = self._held_out[: n_windows * CONTEXT + 1]
        ids, labels = rows[:-1].view(-1, CONTEXT), rows[1:].view(-1, CONTEXT)
        total = 0.0
        for x, y in zip(ids.split(BATCH), labels.split(BATCH), strict=True):
            logits = self._logits(x).float().flatten(0, 1)
            total += torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum").item()
        return total / ids.numel()

    def result(self) -> dict[str, Any]:
        marks = self.clock.marks[WARMUP_STEPS:]
        seconds = marks[-1] - marks[0]
        return {
            "tokens_per_second": (len(marks) - 1) * BATCH * CONTEXT / seconds,
            "reached": self.reached,
            "curve": self.curve,
        }


class FinishedError(Exception):
    """The race is over, or the last step is done."""


def gpt2_shape() -> Any:
    from stemma.models import TransformerConfig
    from stemma.nn import AttentionConfig

    return TransformerConfig(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        d_model=D_MODEL,
        n_layers=LAYERS,
        attention=AttentionConfig(n_heads=HEADS),
        tie_embeddings=False,
    )


def run_stemma(options: argparse.Namespace) -> dict[str, Any]:
    from stemma.data import Batches, SlidingWindows, TokenArray
    from stemma.models import Transformer
    from stemma.training import AdamWConfig, MuonConfig, NextToken, Trainer, TrainingConfig
    from stemma.training.schedule import LinearCooldownConfig

    model = Transformer(gpt2_shape(), seed=0)
    watch = Watch(options, model)
    adamw = AdamWConfig.parse({"lr": options.lr, "weight_decay": 0.1})
    muon = MuonConfig.parse({"lr": 0.03, "adamw": {"lr": options.lr, "weight_decay": 0.0}})
    optimizer = (muon if options.race else adamw).build(model)

    def on_step(_: Any) -> None:
        if watch.between_steps():
            raise FinishedError

    tokens = TokenArray(np.load(options.data / "train.npy"))
    watch.between_steps()
    trainer = Trainer(
        model,
        NextToken(),
        Batches(SlidingWindows(tokens, CONTEXT), BATCH),
        optimizer,
        LinearCooldownConfig.parse(
            {"warmup_steps": min(10, options.steps // 10), "cooldown_fraction": 0.6}
        ).build(options.steps),
        TrainingConfig.parse(
            {"steps": options.steps, "batch_size": BATCH, "precision": options.precision}
        ),
        on_step=on_step,
    )
    with suppress(FinishedError):
        trainer.fit()
    return watch.result()


def run_llms_from_scratch(options: argparse.Namespace) -> dict[str, Any]:
    from llms_from_scratch.ch04 import GPTModel
    from llms_from_scratch.ch05 import train_model_simple

    torch.manual_seed(0)
    model = GPTModel(
        {
            "vocab_size": VOCAB,
            "context_length": CONTEXT,
            "emb_dim": D_MODEL,
            "n_heads": HEADS,
            "n_layers": LAYERS,
            "drop_rate": 0.0,
            "qkv_bias": True,
        }
    )
    watch = Watch(options, model)

    class Loader:
        """Its loop evaluates on the loader after the first step: that pass gets one plain batch."""

        trains = True

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            trains, self.trains = self.trains, False
            for batch in windows(options.data, options.steps if trains else 1):
                if trains and watch.between_steps():
                    raise FinishedError
                yield batch
            if trains:
                watch.between_steps()
                raise FinishedError  # before it writes its sample at the end of the epoch

        def __len__(self) -> int:
            return options.steps

    loader = Loader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.1)
    device = torch.device("cpu")
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")
    with suppress(FinishedError), redirect_stdout(sys.stderr), autocast:
        train_model_simple(model, loader, loader, optimizer, device, 1, 10**9, 1, "", None)
    return watch.result()


def run_transformers(options: argparse.Namespace) -> dict[str, Any]:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=CONTEXT,
            n_embd=D_MODEL,
            n_layer=LAYERS,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    watch = Watch(options, lambda ids: model(ids).logits)

    class Rows(torch.utils.data.IterableDataset[dict[str, Tensor]]):
        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            for ids, _ in windows(options.data, options.steps):
                yield from ({"input_ids": row, "labels": row} for row in ids)

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.between_steps()

        def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> Any:
            if watch.between_steps():
                control.should_training_stop = True
            return control

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=options.steps,
            learning_rate=options.lr,
            weight_decay=0.1,
            warmup_steps=10,
            lr_scheduler_type="linear",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=options.precision == "bfloat16",
            dataloader_num_workers=0,
            disable_tqdm=True,
        )
        Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Steps()]).train()
    return watch.result()


RUNNERS = {
    "stemma": run_stemma,
    "llms-from-scratch": run_llms_from_scratch,
    "transformers": run_transformers,
}


def prepare(folder: Path) -> float:
    """Token ids of the shipped text; returns the bytes of a token."""
    from stemma.data import TokenArray, read_documents, shipped_corpus, train_and_held_out
    from stemma.tokenizers import ByteLevelBPE

    train, held_out = train_and_held_out(read_documents(shipped_corpus()), 0.05)
    tokenizer = ByteLevelBPE.train((document.text for document in train), VOCAB)
    for name, documents in (("train", train), ("heldout", held_out)):
        tokens = TokenArray.encode(documents, tokenizer)
        np.save(folder / f"{name}.npy", tokens[:])
    return tokens.n_bytes / len(tokens)


def launch(contender: str, data: Path, **options: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "worker", contender, "--data", str(data)]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        command += [flag] if value is True else [] if value is False else [flag, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def speed(rounds: int, steps: int) -> None:
    """Print tokens per second, and the ratios of each round with their spread."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        prepare(data)
        print("| precision | contender | tokens/s, median (least - most) | stemma is faster by |")
        print("|---|---|---|---|")
        for precision in ("float32", "bfloat16"):
            found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
            for _ in range(rounds):
                for name in CONTENDERS:
                    result = launch(name, data, precision=precision, steps=steps, lr=1e-3)
                    found[name].append(result["tokens_per_second"])
            for name, rates in found.items():
                ratios = [
                    ours / theirs for ours, theirs in zip(found["stemma"], rates, strict=True)
                ]
                spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
                ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
                shown = "" if name == "stemma" else ratio
                rate = statistics.median(rates)
                print(f"| {precision} | {name} | {rate:,.0f} ({spread}) | {shown} |", flush=True)


def race(
    target: float, horizons: dict[str, list[int]], rates: dict[str, float], precisions: list[str]
) -> None:
    """Print the seconds that each needs to the target."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        bytes_per_token = prepare(data)
        bits = target / math.log(2) / bytes_per_token
        print(f"target: held-out loss {target} nats per token, {bits:.3f} bits per byte\n")
        print("| contender | precision | steps | seconds to the target | tokens/s |")
        print("|---|---|---|---|---|", flush=True)
        for name, choices in horizons.items():
            for precision in precisions:
                for steps in choices:
                    found = launch(
                        name,
                        data,
                        precision=precision,
                        steps=steps,
                        lr=rates[name],
                        target=target,
                        evaluate_every=20,
                        race=True,
                    )
                    reached = found["reached"]
                    best = min(loss for _, loss in found["curve"])
                    shown = f"{reached:.0f}" if reached else f"not reached (best {best:.3f})"
                    rate = found["tokens_per_second"]
                    print(f"| {name} | {precision} | {steps} | {shown} | {rate:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("speed", help=speed.__doc__)
    one.add_argument("--rounds", type=int, default=3)
    one.add_argument("--steps", type=int, default=15)
    two = commands.add_parser("race", help=race.__doc__)
    two.add_argument("--target", type=float, default=4.3)
    two.add_argument("--steps-stemma", type=int, nargs="+", default=[260])
    two.add_argument("--steps-peers", type=int, nargs="+", default=[450])
    two.add_argument("--lr-llms-from-scratch", type=float, default=4e-4, help="the book's")
    two.add_argument("--lr-transformers", type=float, default=1e-3, help="its default is 5e-5")
    two.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    two.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    worker = commands.add_parser("worker", help="one contender, in this process")
    worker.add_argument("contender", choices=CONTENDERS)
    worker.add_argument("--data", type=Path, required=True)
    worker.add_argument("--precision", default="float32")
    worker.add_argument("--steps", type=int, default=15)
    worker.add_argument("--lr", type=float, default=1e-3)
    worker.add_argument("--target", type=float, default=0.0)
    worker.add_argument("--evaluate-every", type=int, default=0)
    worker.add_argument("--race", action="store_true")
    options = parser.parse_args()
    match options.command:
        case "speed":
            speed(options.rounds, options.steps)
        case "race":
            horizons = {
                "stemma": options.steps_stemma,
                "llms-from-scratch": options.steps_peers[-1:],
                "transformers": options.steps_peers,
            }
            horizons = {name: horizons[name] for name in options.contenders}
            rates = {
                "stemma": 8e-3,
                "llms-from-scratch": options.lr_llms_from_scratch,
                "transformers": options.lr_transformers,
            }
            race(options.target, horizons, rates, options.precisions)
        case "worker":
            print(json.dumps(RUNNERS[options.contender](options)))


if __name__ == "__main__":
    main()
