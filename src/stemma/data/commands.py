"""``stemma data``: prepare text as token shards, and prove shards whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stemma.data.shards import TokenShards
    from stemma.tokenizers import Tokenizer

_AT_ONCE = 1 << 22
_PROBES = ("A b  c.\n\t\u00c9e\u0301 \ufb01", "a b\n", "a  b", "A")
"""Capitals, accents, white space and a ligature: what normalisation changes."""

app = typer.Typer(help="Prepare text as token shards, and verify them.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Prepare text as token shards, and verify them."""


@app.command()
def prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, - for standard input, or the name of a shipped corpus.",
        ),
    ],
    *,
    tokenizer: Annotated[
        str, typer.Option(help="A tokenizer directory, a tokenizer.json, or gpt2.")
    ],
    output: Annotated[Path, typer.Option(help="Directory to make; it must not exist.")],
    held_out: Annotated[float, typer.Option(help="Share of the text to hold out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Chooses the documents to hold out.")] = 0,
    text_field: Annotated[str, typer.Option(help="Field or column of JSONL and Parquet.")] = "text",
) -> None:
    """Encode text into OUTPUT/train and OUTPUT/heldout, split by document."""
    from stemma.data.prepare import prepare as prepare_shards
    from stemma.data.sources import read_documents

    encoder = _load_tokenizer(tokenizer)
    sides = prepare_shards(
        read_documents([_resolve(name) for name in inputs], text_field=text_field),
        encoder,
        output,
        held_out_fraction=held_out,
        seed=seed,
        progress=_progress(),
    )
    for shards in sides:
        _report(shards)
    _warn_of_losses(encoder, sides)


@app.command()
def encode(
    file: Annotated[
        Path, typer.Argument(help="UTF-8 text of any size, also .gz, .xz, .bz2; - for stdin.")
    ],
    *,
    tokenizer: Annotated[
        str, typer.Option(help="A tokenizer directory, a tokenizer.json, or gpt2.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of shards to make; it must not exist.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="How many encode; one a processor by default.")
    ] = None,
) -> None:
    """Encode one text file of any size into shards, without a split."""
    from stemma.data.streaming import encode_file

    encoder = _load_tokenizer(tokenizer)
    shards = encode_file(file, encoder, output, threads=threads, progress=_progress())
    _report(shards)
    _warn_of_losses(encoder, [shards])


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="What `stemma data prepare` made.")],
) -> None:
    """Compare every byte of the shards with the manifest's sha256."""
    from stemma.data.prepare import HELD_OUT, TRAIN
    from stemma.data.shards import TokenShards

    sides = [directory / side for side in (TRAIN, HELD_OUT) if (directory / side).is_dir()]
    for side in sides or [directory]:
        shards = TokenShards(side)
        shards.verify()
        _report(shards)


def _resolve(name: str) -> Path:
    from stemma.data.corpus import shipped_corpora, shipped_corpus

    path = Path(name)
    return shipped_corpus(name) if name in shipped_corpora() and not path.exists() else path


def _load_tokenizer(name: str) -> Tokenizer:
    from stemma.tokenizers import gpt2, load_tokenizer

    return gpt2() if name == "gpt2" and not Path(name).exists() else load_tokenizer(name)


def _report(shards: TokenShards) -> None:
    typer.echo(
        f"{shards.directory}: {shards.n_documents:,} documents, {shards.n_bytes:,} bytes, "
        f"{len(shards):,} tokens ({shards.n_bytes / len(shards):.2f} bytes per token)"
    )


def _warn_of_losses(tokenizer: Tokenizer, sides: Sequence[TokenShards]) -> None:
    """Say what decoding the shards will not give back."""
    from stemma.errors import TokenizerError
    from stemma.tokenizers.view.comparison import unknown_id

    unknown = unknown_id(tokenizer)
    if unknown is not None:
        n = sum(map(len, sides))
        lost = sum(
            int((shards[i : i + _AT_ONCE] == unknown).sum())
            for shards in sides
            for i in range(0, len(shards), _AT_ONCE)
        )
        if lost:
            name = tokenizer.token_bytes(unknown).decode(errors="replace")
            _warn(
                f"{lost:,} of {n:,} tokens ({100 * lost / n:.2g} %) are {name}: their text is lost"
            )
    for probe in _PROBES:
        try:
            ids = tokenizer.encode(probe)
        except TokenizerError:
            continue
        found = tokenizer.decode(ids)
        if unknown not in ids and found != probe:
            _warn(f"this tokenizer changes text: {probe!r} comes back as {found!r}")
            return


def _warn(text: str) -> None:
    typer.secho(f"warning: {text}", fg=typer.colors.YELLOW, err=True)


def _progress(every_seconds: float = 2.0) -> Callable[[int, int], None]:
    """Prints documents, bytes and rate to standard error now and then."""
    from time import monotonic

    start = shown = monotonic()

    def show(n_documents: int, n_bytes: int) -> None:
        nonlocal shown
        now = monotonic()
        if now - shown >= every_seconds:
            shown = now
            megabytes = n_bytes / 1e6
            rate = megabytes / (now - start)
            typer.echo(f"{n_documents:,} documents, {megabytes:,.1f} MB, {rate:.1f} MB/s", err=True)

    return show
