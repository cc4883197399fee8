"""`stemma generate`: a prompt, continued on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stemma.inference.options import DtypeOption, QuantiseOption

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stemma.inference import Generation, SamplingConfig
    from stemma.models import LanguageModel
    from stemma.tokenizers import Tokenizer


def generate_command(
    model: Annotated[str, typer.Argument(help="A model directory, a run, or a name.")],
    prompt: Annotated[
        str, typer.Argument(help="The text to continue; - reads it, as it is, from standard input.")
    ] = "",
    *,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens to add.")] = 200,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1 safer, above 1 wilder; 1 by default, 0 is greedy.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k most probable tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Keep the fewest tokens that hold this probability.")
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Keep tokens with at least this fraction of the highest probability."),
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: tokens already in the text become less probable.")
    ] = 1.0,
    typical_p: Annotated[
        float | None,
        typer.Option(help="Keep the tokens of most typical surprise that hold this probability."),
    ] = None,
    frequency_penalty: Annotated[
        float, typer.Option(help="Taken off a token's logit each time it was generated.")
    ] = 0.0,
    presence_penalty: Annotated[
        float, typer.Option(help="Taken off the logit of a token that was generated.")
    ] = 0.0,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN=NUMBER", help="Added to a token's logit; the token's text, or its id."
        ),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always take the most probable token.")
    ] = False,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this string; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Number of continuations.")] = 1,
    batch: Annotated[
        Path | None,
        typer.Option(help='A file of prompts, one a line, or .jsonl with {"prompt": ...}.'),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="With --batch: the most texts that are computed at once.")
    ] = 16,
    slide: Annotated[
        bool, typer.Option("--slide", help="Forget the oldest text when the context is full.")
    ] = False,
    top_alternatives: Annotated[
        int, typer.Option(min=0, help="With --json: the most probable tokens in each place.")
    ] = 0,
    dtype: DtypeOption = None,
    quantise: QuantiseOption = None,
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="lookup|MODEL", help="Guess several tokens at once; the text stays as it is."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per sample, with ids and log-probs.")
    ] = False,
) -> None:
    """Continue a prompt with a model.

    The prompt and its continuation go to standard output as they come; what is said about them
    goes to standard error.
    """
    from stemma.inference import (
        SamplingConfig,
        collect,
        generate_ids,
        parse_bias,
        sample_seeds,
        stream,
    )

    if batch is not None and (prompt or slide or samples > 1 or draft):
        others = "a prompt, --samples, --slide or --draft"
        raise typer.BadParameter(f"not with {others}", param_hint="--batch")
    if greedy and temperature:
        raise typer.BadParameter("it is temperature 0: give one of the two", param_hint="--greedy")
    rules: dict[str, Any] = {
        "temperature": 0.0 if greedy else 1.0 if temperature is None else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "seed": seed,
    }
    sampling = SamplingConfig.parse(rules, source="sampling")
    text = _standard_input() if prompt == "-" else prompt
    loaded, tokenizer = load_as_asked(model, dtype, quantise)
    if logit_bias:
        sampling = sampling.replace(logit_bias=parse_bias(tokenizer, logit_bias))
    if batch is not None:
        options: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "stop": stop or (),
            "top_alternatives": top_alternatives,
            "rows": rows,
        }
        _generate_batch((loaded, tokenizer), batch, sampling, as_json=as_json, **options)
        return
    decode = generate_ids if draft is None else _drafted(draft)
    for number, sample_seed in enumerate(sample_seeds(sampling.seed, samples), start=1):
        pieces = stream(
            loaded,
            tokenizer,
            text,
            max_new_tokens=max_new_tokens,
            sampling=sampling.replace(seed=sample_seed),
            stop=stop or (),
            top_alternatives=top_alternatives,
            overflow="slide" if slide else "error",
            decode=decode,
        )
        if as_json:
            typer.echo(_as_json(collect(pieces)))
            continue
        if samples > 1:
            typer.echo(f"--- {number} of {samples}")
        _show(text, pieces)


def load_as_asked(
    name: str | Path,
    dtype: Literal["float32", "bfloat16"] | None,
    bits: Literal["int8", "int4"] | None,
) -> tuple[LanguageModel, Tokenizer]:
    """A model in the precision that the options of a command name."""
    from stemma import hub
    from stemma.inference.quantisation import quantise

    model, tokenizer = hub.load(name, dtype=dtype or "fast")
    return model if bits is None else quantise(model, bits), tokenizer


def _drafted(name: str) -> Callable[..., Generator[int, None, None]]:
    """Speculative decoding with a draft by its name."""
    from functools import partial

    from stemma import hub
    from stemma.inference import Draft, ModelDraft, PromptLookup, speculate_ids

    draft: Draft = (
        PromptLookup() if name == "lookup" else ModelDraft(hub.load(name, dtype="fast")[0])
    )
    return partial(speculate_ids, draft=draft)


def _generate_batch(
    model: tuple[LanguageModel, Tokenizer],
    file: Path,
    sampling: SamplingConfig,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    from stemma.inference import generate_batch, sample_seeds
    from stemma.inference.prompt_file import read_prompts

    prompts = read_prompts(file)
    seeds = sample_seeds(sampling.seed, max(len(prompts), 1))
    rules = [sampling.replace(seed=seed) for seed in seeds[: len(prompts)]]
    generations = generate_batch(*model, prompts, sampling=rules, **options)
    for number, generation in enumerate(generations, start=1):
        if as_json:
            typer.echo(_as_json(generation))
        else:
            typer.echo(f"--- {number} of {len(prompts)}")
            typer.secho(generation.prompt, nl=False, bold=True)
            typer.echo(generation.text)


def _standard_input() -> str:
    import sys

    from stemma.errors import DataError

    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}",
            where="standard input",
            cure="Convert it, for example with iconv.",
        ) from None


def _show(prompt: str, pieces: Generator[str, None, Generation]) -> None:
    import sys
    import time

    from stemma.inference import collect

    typer.secho(prompt, nl=False, bold=True)
    started = time.perf_counter()
    generation = collect(pieces, lambda piece: typer.echo(piece, nl=False))
    seconds = time.perf_counter() - started
    typer.echo()
    if generation.finish_reason == "context":
        typer.echo("The context is full: --slide goes on.", err=True)
    if sys.stderr.isatty():
        n_tokens = len(generation.ids)
        typer.secho(
            f"{n_tokens:,} tokens in {seconds:.1f} s, {n_tokens / seconds:,.0f} tokens/s, "
            f"seed {generation.seed}, ended by {generation.finish_reason}",
            err=True,
            dim=True,
        )


def _as_json(generation: Generation) -> str:
    import json
    from dataclasses import asdict

    values = asdict(generation)
    if not values["top_alternatives"]:
        del values["top_alternatives"]
    return json.dumps(values, ensure_ascii=False)
