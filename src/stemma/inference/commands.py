"""`stemma generate`: a prompt, continued on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stemma.inference.options import DtypeOption, QuantiseOption, note_file

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from functools import partial

    from stemma.inference import Generation, SamplingConfig, SpeculationStatistics
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
    from stemma.inference.bias import parse_bias, split_bias
    from stemma.inference.sampling_config import SamplingConfig
    from stemma.inference.stopping import StopStrings

    alone = bool(prompt or slide or samples > 1 or draft)
    _refuse(batch and alone, "--batch", "not with a prompt, --samples, --slide or --draft")
    _refuse(greedy and temperature, "--greedy", "it is temperature 0: give one of the two")
    _refuse(slide and draft, "--slide", "not with --draft, which checks ids over one window")
    _refuse(top_alternatives and not as_json, "--top-alternatives", "only --json shows them")
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
    split_bias(logit_bias or ())
    StopStrings(stop or ())
    prompts = _prompts(prompt, batch)
    loaded, tokenizer = load_as_asked(model, dtype, quantise)
    drafted = _drafted(draft, tokenizer) if draft else None
    decode: dict[str, Any] = {"decode": drafted} if drafted else {}
    if logit_bias:
        sampling = sampling.replace(logit_bias=parse_bias(tokenizer, logit_bias))
    wanted: dict[str, Any] = {"max_new_tokens": max_new_tokens, "stop": stop or ()}
    wanted |= {"top_alternatives": top_alternatives, "sampling": sampling, "as_json": as_json}
    if batch is not None:
        _continue_all((loaded, tokenizer), prompts, rows=rows, **wanted)
    else:
        overflow = "slide" if slide else "error"
        _continue_one(
            (loaded, tokenizer), prompts[0], samples, overflow=overflow, **decode, **wanted
        )
    if drafted:
        _say_what_it_was_worth(drafted.keywords["statistics"])


def load_as_asked(
    name: str | Path,
    dtype: Literal["float32", "bfloat16"] | None,
    bits: Literal["int8", "int4"] | None,
    *,
    called: str | None = None,
) -> tuple[LanguageModel, Tokenizer]:
    """A model that continues text, in the precision that the options of a command name.

    Args:
        name: of it, or its path.
        dtype: of the weights; None stands for ``"fast"``.
        bits: into which the weights are put.
        called: how the user named it, where that is not ``name``.
    """
    from stemma.hub.progress import saying

    with saying(f"loading {called or name}"):
        from stemma import hub
        from stemma.hub.opening import refuse_encoder

        note_file(name)
        place = hub.find_model(name)
        refuse_encoder(place)
        model, tokenizer = hub.load(place, dtype=dtype or "fast")
    if bits is None:
        return model, tokenizer
    with saying(f"putting the weights into {bits}"):
        from stemma.inference.quantisation import quantise

        return quantise(model, bits), tokenizer


def _refuse(wrong: object, option: str, why: str) -> None:
    if wrong:
        raise typer.BadParameter(why, param_hint=option)


def _prompts(prompt: str, batch: Path | None) -> list[str]:
    """What is to be continued, from where the options say."""
    from stemma.inference.prompt_file import read_prompts

    if batch is not None:
        return read_prompts(batch)
    return [_standard_input() if prompt == "-" else prompt]


def _drafted(name: str, tokenizer: Tokenizer) -> partial[Generator[int, None, None]]:
    """Speculative decoding with a draft by its name, which counts as it goes."""
    from functools import partial

    from stemma.errors import ModelError
    from stemma.inference import (
        Draft,
        ModelDraft,
        PromptLookup,
        SpeculationStatistics,
        speculate_ids,
    )

    draft: Draft = PromptLookup()
    if name != "lookup":
        model, its_own = load_as_asked(name, None, None)
        if not its_own.agrees_with(tokenizer):
            raise ModelError(
                "its ids stand for other texts than the model's",
                where=f"--draft {name}",
                cure="Draft with a model of the same tokenizer, or with --draft lookup.",
            )
        draft = ModelDraft(model)
    return partial(speculate_ids, draft=draft, statistics=SpeculationStatistics())


def _say_what_it_was_worth(counted: SpeculationStatistics) -> None:
    typer.secho(
        f"draft: {counted.tokens_per_call:.2f} tokens per pass of the model, {counted.accepted:,} "
        f"of {counted.examined:,} guesses accepted ({counted.acceptance:.0%})",
        err=True,
        dim=True,
    )


def _continue_one(
    model: tuple[LanguageModel, Tokenizer],
    prompt: str,
    samples: int,
    *,
    sampling: SamplingConfig,
    as_json: bool,
    **options: Any,
) -> None:
    """Show one or several continuations of a prompt."""
    from stemma.inference import collect, sample_seeds, stream

    for number, seed in enumerate(sample_seeds(sampling.seed, samples), start=1):
        pieces = stream(*model, prompt, sampling=sampling.replace(seed=seed), **options)
        if as_json:
            typer.echo(_as_json(collect(pieces)))
            continue
        if samples > 1:
            typer.echo(f"--- {number} of {samples}")
        _show(prompt, pieces)


def _continue_all(
    model: tuple[LanguageModel, Tokenizer],
    prompts: Sequence[str],
    *,
    sampling: SamplingConfig,
    as_json: bool,
    **options: Any,
) -> None:
    """Show a continuation of each prompt."""
    from stemma.hub.progress import saying
    from stemma.inference import generate_batch, sample_seeds

    seeds = sample_seeds(sampling.seed, len(prompts))
    rules = [sampling.replace(seed=seed) for seed in seeds]
    with saying(f"continuing {len(prompts):,} prompts"):
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

    from stemma.errors import DataError, reason

    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            reason(error),
            where="standard input",
            cure="Convert it, for example with iconv.",
        ) from None


def _show(prompt: str, pieces: Generator[str, None, Generation]) -> None:
    """The prompt, once there is something behind it: what goes wrong or is said comes before."""
    import sys
    import time

    from stemma.hub.progress import saying
    from stemma.inference import collect

    heads = [prompt]
    started = time.perf_counter()
    with saying("reading the prompt") as begun:

        def show(piece: str) -> None:
            begun()
            while heads:
                typer.secho(heads.pop(), nl=False, bold=True)
            typer.echo(piece, nl=False)

        generation = collect(pieces, show)
        show("")
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
