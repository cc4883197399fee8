"""Decoding on a CPU: stemma, transformers and llama.cpp with the weights of one GGUF file, in turn.

    pip install 'stemma-llm[bench]' llama-cpp-python
    python benchmarks/inference.py speed smollm2.gguf
    python benchmarks/inference.py memory smollm2.gguf
    python benchmarks/inference.py perplexity smollm2.gguf --text wiki.test.raw
    python benchmarks/inference.py speculation smollm2.gguf --text wiki.test.raw

Contenders take turns in every round, so that a busy machine hurts all of them alike; a ratio is
that of one round, and the table shows its median and, in brackets, the lowest and the highest.
All choose greedily, with equally many threads. *prefill*: a prompt and its first token. *decode*:
the tokens after it, from the difference of a long and a short run. transformers and stemma read the
file's weights as bfloat16 (and stemma puts them into 8 and 4 bits); llama.cpp takes the file as it
is, and a Q8_0 made of it. llama.cpp's Python interface decodes one text at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A file beside this one is named like a library that is needed here.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]

OURS = ["stemma bf16", "stemma int8", "stemma int4"]
ALL = [*OURS, "transformers bf16", "llama.cpp as is", "llama.cpp Q8_0"]

Run = Callable[[list[list[int]], int], Any]
"""Continue prompts of one length by so many tokens each."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "memory", "perplexity", "speculation", "one"])
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--contenders", nargs="+", default=ALL, choices=ALL)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--prompts", nargs="+", type=int, default=[16, 1024])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--text", type=Path, help="is predicted (perplexity), or continued")
    parser.add_argument("--characters", type=int, default=200_000, help="of the text")
    arguments = parser.parse_args()
    globals()[arguments.what](arguments)


def contender(name: str, arguments: argparse.Namespace) -> Run:
    library, _, precision = name.partition(" ")
    if library == "llama.cpp":
        return _llama_cpp(arguments, requantised=precision == "Q8_0")
    import torch

    torch.set_num_threads(arguments.threads)
    if library == "transformers":
        return _transformers(arguments.model)
    return _stemma(arguments.model, precision)


def _stemma(path: Path, precision: str) -> Run:
    import torch

    import stemma
    from stemma.inference import Batch, SamplingConfig, generate_ids, quantise

    model, _ = stemma.load(path, dtype=torch.bfloat16)
    if precision != "bf16":
        quantise(model, precision)
    greedy = SamplingConfig(temperature=0)

    @torch.inference_mode()
    def run(prompts: list[list[int]], n: int) -> Any:
        if len(prompts) == 1:
            return list(generate_ids(model, prompts[0], max_new_tokens=n, sampling=greedy))
        batch = Batch(model)
        for prompt in prompts:
            batch.add(prompt, max_new_tokens=n, sampling=greedy)
        while batch.busy:
            batch.step()
        return None

    return run


def _transformers(path: Path) -> Run:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16
    ).eval()

    @torch.inference_mode()
    def run(prompts: list[list[int]], n: int) -> Any:
        ids = torch.tensor(prompts)
        rules = {"do_sample": False, "max_new_tokens": n, "min_new_tokens": n, "use_cache": True}
        mask = torch.ones_like(ids)
        return model.generate(ids, attention_mask=mask, pad_token_id=0, **rules).tolist()

    return run


def _llama_cpp(arguments: argparse.Namespace, *, requantised: bool) -> Run:
    import llama_cpp

    path = _as_q8_0(arguments.model) if requantised else arguments.model
    longest = max(arguments.prompts) + arguments.tokens + 8
    model = llama_cpp.Llama(
        str(path),
        n_ctx=longest,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        verbose=False,
    )

    def run(prompts: list[list[int]], n: int) -> Any:
        chosen: list[int] = []
        model.reset()
        for id_ in model.generate(prompts[0], temp=0.0, repeat_penalty=1.0):
            chosen.append(id_)
            if len(chosen) == n:
                break
        return chosen

    return run


def _as_q8_0(path: Path) -> Path:
    import llama_cpp

    made = Path(tempfile.gettempdir()) / f"{path.stem}-q8_0.gguf"
    if not made.exists():
        rules = llama_cpp.llama_model_quantize_default_params()
        rules.ftype, rules.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, True
        llama_cpp.llama_model_quantize(os.fsencode(path), os.fsencode(made), rules)
    return made


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def speed(arguments: argparse.Namespace) -> None:
    runs = {name: contender(name, arguments) for name in arguments.contenders}
    print(_versions(), f"{arguments.threads} threads", flush=True)
    for batch in arguments.batches:
        for length in arguments.prompts:
            fitting = {n: r for n, r in runs.items() if batch == 1 or "llama" not in n}
            _speed(arguments, fitting, batch, length)


def _speed(arguments: argparse.Namespace, runs: dict[str, Run], batch: int, length: int) -> None:
    # The numbers 1, 2, 3, ... in another order for each row: nothing that a cache could have seen.
    prompts = [[(i * (2 * row + 7)) % 1000 + 300 for i in range(length)] for row in range(batch)]
    prefill: dict[str, list[float]] = {name: [] for name in runs}
    decode: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(prompts, 8)
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            short = seconds(lambda run=run: run(prompts, 1))
            long = seconds(lambda run=run: run(prompts, 1 + arguments.tokens))
            prefill[name].append(batch * length / short)
            decode[name].append(batch * arguments.tokens / max(long - short, 1e-9))
    print(f"\n{batch} x {length} tokens, {arguments.tokens} new ones each\n", flush=True)
    ours = next(iter(runs))
    print(f"| | prefill, tokens/s | {ours} / it | decode, tokens/s | {ours} / it |")
    print("|---|---|---|---|---|")
    for name in runs:
        cells = []
        for rates in (prefill, decode):
            ratios = [a / b for a, b in zip(rates[ours], rates[name], strict=True)]
            cells += [_spread(rates[name], 0), _spread(ratios, 2)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def memory(arguments: argparse.Namespace) -> None:
    """Loading and 16 tokens, each in a process of its own."""
    print("| | ready to continue, s | with the first 16 tokens, s | peak memory, MB |")
    print("|---|---|---|---|")
    for name in arguments.contenders:
        command = [sys.executable, __file__, "one", str(arguments.model), "--contenders", name]
        command += ["--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {found[0]:.1f} | {found[1]:.1f} | {found[2]:,.0f} |", flush=True)


def one(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    run = contender(arguments.contenders[0], arguments)
    loaded = time.perf_counter() - started
    run([[300 + i for i in range(16)]], 16)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([loaded, time.perf_counter() - started, peak]))


def perplexity(arguments: argparse.Namespace) -> None:
    """What few bits cost, on a text."""
    import torch

    import stemma
    from stemma.evaluation import quantisation_loss

    torch.set_num_threads(arguments.threads)
    model, tokenizer = stemma.load(arguments.model)
    text = arguments.text.read_text("utf-8")[: arguments.characters]
    ids = torch.from_numpy(tokenizer.encode(text).astype("int64"))
    print(f"{len(ids):,} tokens\n\n| | nats per token | perplexity | added, nats |")
    print("|---|---|---|---|")
    for line in quantisation_loss(model, ids, context_length=1024, stride=1024, batch_size=1):
        cells = f"{line.nats_per_token:.4f} | {line.perplexity:.3f} | {line.added:+.4f}"
        print(f"| {line.bits or 'as it is'} | {cells} +- {line.standard_error:.4f} |", flush=True)


def speculation(arguments: argparse.Namespace) -> None:
    """One text as such, and one that begins to repeat what stands before it."""
    import torch

    import stemma
    from stemma.inference import (
        ModelDraft,
        PromptLookup,
        SamplingConfig,
        SpeculationStatistics,
        generate_ids,
        quantise,
        speculate_ids,
    )

    torch.set_num_threads(arguments.threads)
    model, tokenizer = stemma.load(arguments.model, dtype=torch.bfloat16)
    small = quantise(stemma.load(arguments.model, dtype=torch.bfloat16)[0], "int4")
    passage = tokenizer.encode(arguments.text.read_text("utf-8")[:4000]).tolist()[:400]
    greedy, n = SamplingConfig(temperature=0), arguments.tokens

    def run(draft: Any, n_draft: int, prompt: list[int]) -> tuple[float, list[int], Any]:
        counts = SpeculationStatistics()
        rules = {"max_new_tokens": n + 1, "sampling": greedy}
        if draft is None:
            text = generate_ids(model, prompt, **rules)
        else:
            more = {"draft": draft, "n_draft": n_draft, "statistics": counts}
            text = speculate_ids(model, prompt, **more, **rules)
        first = next(text)
        started = time.perf_counter()
        ids = [first, *text]
        return (len(ids) - 1) / (time.perf_counter() - started), ids, counts

    drafts = {"none": (lambda: None, [0]), "prompt lookup": (PromptLookup, [3, 7])}
    drafts["its own weights in int4"] = (lambda: ModelDraft(small), [3, 7])
    ways = {(name, n): make for name, (make, counts) in drafts.items() for n in counts}
    for what, prompt in {"a text": passage, "a copy": [*passage, *passage[:100]]}.items():
        rates: dict[Any, list[float]] = {way: [] for way in ways}
        found: dict[Any, Any] = {}
        for _ in range(arguments.rounds):
            for (name, n_draft), make in ways.items():
                rate, ids, counts = run(make(), n_draft, prompt)
                rates[name, n_draft].append(rate)
                found[name, n_draft] = ids, counts
        print(f"\n{what}\n\n| draft | ids | decode, tokens/s | gain | tokens a pass | accepted |")
        print("|---|---|---|---|---|---|")
        for way, (ids, counts) in found.items():
            gains = [a / b for a, b in zip(rates[way], rates["none", 0], strict=True)]
            same = "" if ids == found["none", 0][0] else " (another text: near ties)"
            print(
                f"| {way[0]}{same} | {way[1]} | {_spread(rates[way], 0)} | {_spread(gains, 2)} "
                f"| {counts.tokens_per_call:.2f} | {counts.acceptance:.0%} |"
            )


def _versions() -> str:
    from importlib.metadata import version

    peers = ["torch", "transformers", "llama-cpp-python", "numba"]
    return "  ".join(f"{name} {version(name)}" for name in peers)


if __name__ == "__main__":
    main()
