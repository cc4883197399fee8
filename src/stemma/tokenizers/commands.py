"""``stemma tokenizer``: train a tokenizer, look at how one cuts text, and compare several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemma.errors import TokenizerError

if TYPE_CHECKING:
    from rich.console import Console

    from stemma.tokenizers.tokenizer import Tokenizer

app = typer.Typer(help="Train a tokenizer, and look at how one cuts text.", no_args_is_help=True)

_WHICH = "gpt2, a run, a directory or file with a tokenizer, or a name that STEMMA_MIRROR has."
_TOKENIZER = Annotated[str, typer.Option("--tokenizer", "-t", help=_WHICH)]
_TEXT = Annotated[str | None, typer.Argument(help="The text; without it, standard input is read.")]
_SPECIAL = Annotated[
    bool, typer.Option("--special", help="Find special tokens where their names stand in the text.")
]
_JSON = Annotated[bool, typer.Option("--json", help="Print plain data.")]
_HTML = Annotated[
    Path | None, typer.Option("--html", help="Write a page that needs nothing but itself.")
]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


@app.command()
def train(
    *,
    inputs: Annotated[
        list[Path],
        typer.Option(
            "--input",
            "-i",
            help="A UTF-8 text file (or .gz), a folder of them, or - for standard input; "
            "repeatable.",
        ),
    ],
    vocab_size: Annotated[int, typer.Option(help="Tokens in all, special ones included.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to write; nothing there is replaced.")
    ],
    family: Annotated[
        str,
        typer.Option(
            help="bpe, unigram, wordpiece, grapheme, characters (BPE on them), basic, character, "
            "or word."
        ),
    ] = "bpe",
    special: Annotated[
        list[str] | None,
        typer.Option("--special-token", help="Instead of the family's own; repeatable."),
    ] = None,
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="Accept fewer tokens where the text is short.")
    ] = False,
) -> None:
    """Learn a tokenizer from text; all but grapheme open in Hugging Face's libraries as well."""
    from rich.console import Console

    from stemma.tokenizers.files import TOKENIZER
    from stemma.tokenizers.training import described, train_family

    if (output / TOKENIZER).exists():
        raise TokenizerError(
            "there is a tokenizer already",
            where=str(output),
            cure="Choose another --output, or remove that one first.",
        )
    tokenizer, head = train_family(
        family,
        inputs,
        vocab_size,
        Console(stderr=True, highlight=False),
        special_tokens=special,
        allow_fewer=allow_fewer,
    )
    tokenizer.save(output)
    merges = getattr(tokenizer, "merges", None)
    learned = "" if merges is None else f", {len(merges):,} merges"
    typer.echo(f"{output}: {tokenizer.vocab_size:,} tokens{learned}")
    typer.echo(described(tokenizer, head))
    typer.echo(f'Look at it: stemma tokenizer show "Some text." --tokenizer {output}')


@app.command()
def show(
    text: _TEXT = None,
    *,
    tokenizer: _TOKENIZER = "gpt2",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from a UTF-8 file.")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids/--no-ids", help="Ids under the tokens.")] = True,
    merges: Annotated[
        bool, typer.Option("--merges", help="Why: each word's merges, matches or best path.")
    ] = False,
    special: _SPECIAL = False,
    html: _HTML = None,
    as_json: _JSON = False,
    overwrite: _OVERWRITE = False,
) -> None:
    """Show the tokens of a text in turns of colour, with their ids."""
    from stemma.tokenizers.view.cuts import cut
    from stemma.tokenizers.view.page import cut_page
    from stemma.tokenizers.view.replay import replay
    from stemma.tokenizers.view.steps import show_replays
    from stemma.tokenizers.view.terminal import show_cut, summary

    name, chosen = _find(tokenizer)
    given = _given_text(text, file)
    allowed = "all" if special else ()
    found = cut(chosen, given, name=name, allowed_special=allowed)
    if html:
        page = cut_page(chosen, given, name=name, allowed_special=allowed)
        _write(html, page, overwrite)
    if as_json:
        _print_json(found.to_json())
        return
    console = _console()
    show_cut(console, found, with_ids=ids)
    if merges:
        show_replays(console, replay(chosen, given, allowed_special=allowed))
        console.print()
    typer.echo(summary(found))
    if plain := [n for n in chosen.special_tokens if not special and n in given]:
        typer.echo(f"{plain[0]} was read as plain text; --special reads it as the token.")


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="TOKENIZER...", help=_WHICH)],
    *,
    text: Annotated[
        Path | None, typer.Option("--text", help="Measure them on this UTF-8 file as well.")
    ] = None,
    udhr: Annotated[
        Path | None,
        typer.Option(
            help="Translations of one text, by language, to compare scripts with; default: "
            "text/udhr2.zip of STEMMA_MIRROR."
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="How numbers, code, emoji ... are cut.")
    ] = True,
    figure: Annotated[
        Path | None, typer.Option(help="Draw tokens per sentence by script: .png, .svg or .pdf.")
    ] = None,
    html: _HTML = None,
    as_json: _JSON = False,
    overwrite: _OVERWRITE = False,
) -> None:
    """Set tokenizers side by side: on a text, on what irritates, and by language."""
    from stemma.tokenizers.named import find_tokenizers
    from stemma.tokenizers.view import comparison, comparison_page, languages, tables
    from stemma.tokenizers.view.samples import cut_samples

    tokenizers = find_tokenizers(names, _note)
    content = None if text is None else _read_text(text)
    measures = () if content is None else comparison.compare(tokenizers, content)
    cuts = cut_samples(tokenizers) if samples or html else ()
    archive = _archive(udhr, wanted=bool(figure))
    costs: tuple[languages.ScriptCost, ...] = ()
    if archive is not None:
        translations = languages.read_translations(archive)
        costs = languages.script_costs(languages.language_costs(tokenizers, translations))
    if figure:
        from stemma.tokenizers.view import figures

        _check_absent(figure, overwrite)
        figures.save(figures.tokens_per_sentence(costs), figure)
        typer.echo(f"{figure} written", err=True)
    if html:
        page = comparison_page.comparison_page(
            tokenizers, cuts, measures=measures, text_name=text.name if text else "", costs=costs
        )
        _write(html, page, overwrite)
    if as_json:
        rows = {"measures": measures, "samples": cuts, "scripts": costs}
        _print_json({key: [row.to_json() for row in value] for key, value in rows.items()})  # type: ignore[attr-defined]
        return
    console = _console()
    if measures:
        tables.show_measures(console, measures)
    if costs:
        tables.show_scripts(console, costs)
    if samples:
        tables.show_samples(console, cuts, list(tokenizers))


@app.command()
def stats(
    name: Annotated[str, typer.Argument(metavar="TOKENIZER", help=_WHICH)] = "gpt2",
    *,
    text: Annotated[
        Path | None, typer.Option("--text", help="Measure it on this UTF-8 file as well.")
    ] = None,
    as_json: _JSON = False,
) -> None:
    """Say what is in a vocabulary: tokens by length and script, the longest, the unreachable."""
    from stemma.tokenizers.view.statistics import statistics
    from stemma.tokenizers.view.tables import show_statistics

    label, tokenizer = _find(name)
    found = statistics(tokenizer, label, None if text is None else _read_text(text))
    if as_json:
        _print_json(found.to_json())
    else:
        show_statistics(_console(), found)


@app.command()
def encode(
    text: _TEXT = None,
    *,
    tokenizer: _TOKENIZER = "gpt2",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from a UTF-8 file.")
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Encode each line by itself, without its line end.")
    ] = False,
    special: _SPECIAL = False,
) -> None:
    """Print the ids of a text, or of standard input, with spaces between them."""
    _, chosen = _find(tokenizer)
    given = _given_text(text, file)
    allowed = "all" if special else ()
    rows = given.removesuffix("\n").split("\n") if lines else [given]
    for row in rows:
        ids = chosen.encode(row, allowed_special=allowed)
        typer.echo(" ".join(map(str, ids.tolist())))


@app.command()
def decode(
    ids: Annotated[
        list[int] | None, typer.Argument(help="The ids; without them, standard input is read.")
    ] = None,
    *,
    tokenizer: _TOKENIZER = "gpt2",
    skip_special: Annotated[
        bool, typer.Option("--skip-special", help="Leave the names of special tokens out.")
    ] = False,
) -> None:
    """Print the text of ids, byte for byte."""
    _, chosen = _find(tokenizer)
    given = _read_ids() if ids is None else ids
    if skip_special:
        special = {*chosen.special_tokens.values()}
        given = [id_ for id_ in given if id_ not in special]
    typer.echo(chosen.decode_bytes(given), nl=False)


def _find(name: str) -> tuple[str, Tokenizer]:
    from stemma.tokenizers.named import find_tokenizer

    return find_tokenizer(name, _note)


def _note(text: str) -> None:
    typer.secho(f"note: {text}", fg=typer.colors.YELLOW, err=True)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _given_text(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise TokenizerError("there is a text and a --file", cure="Give one of them.")
    if text is not None:
        return _decoded(text.encode(errors="surrogateescape"), "the text given")
    return _read(file) if file is not None else _decoded(_standard_input("text"), "standard input")


def _standard_input(what: str) -> bytes:
    if sys.stdin.isatty():
        typer.echo(f"Type the {what}; end with Ctrl-D on a line of its own.", err=True)
    return sys.stdin.buffer.read()


def _read(path: Path) -> str:
    try:
        return _decoded(path.read_bytes(), str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise TokenizerError(f"cannot be read: {reason}", where=str(path)) from None


def _read_text(path: Path) -> str:
    """A file as training would read it: without byte-order mark, lines ending with a newline."""
    from stemma.tokenizers.text_files import read_chunks

    return "".join(read_chunks([path]))


def _decoded(data: bytes, where: str) -> str:
    from stemma.tokenizers.texts import CONVERT

    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
            where=where,
            cure=CONVERT,
        ) from None


def _read_ids() -> list[int]:
    words = _standard_input("ids").split()
    try:
        return [int(word) for word in words]
    except ValueError:
        bad = next(word for word in words if not word.lstrip(b"-").isdigit())
        raise TokenizerError(
            f"{bad[:40].decode(errors='replace')!r} is not an id",
            where="standard input",
            cure="Ids are whole numbers with white space between them.",
        ) from None


def _archive(given: Path | None, *, wanted: bool) -> Path | None:
    """The translations: those named, or the mirror's."""
    import os

    from stemma.tokenizers.named import MIRROR

    if given is not None:
        return given
    folder = os.environ.get(MIRROR)
    if folder and (found := Path(folder) / "text" / "udhr2.zip").exists():
        return found
    if wanted:
        raise TokenizerError(
            "a figure needs a text in many languages",
            where="--figure",
            cure=f"Name an archive with --udhr, or set {MIRROR} to a folder with text/udhr2.zip.",
        )
    return None


def _check_absent(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise TokenizerError(
            "there is a file already",
            where=str(path),
            cure="Choose another name, or give --overwrite.",
        )


def _write(path: Path, text: str, overwrite: bool) -> None:
    _check_absent(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise TokenizerError(f"cannot be written: {reason}", where=str(path)) from None
    typer.echo(f"{path} written", err=True)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, ensure_ascii=False))
