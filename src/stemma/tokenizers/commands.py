"""``stemma tokenizer``: train a tokenizer, and look at how one cuts text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stemma.tokenizers.tokenizer import Tokenizer

app = typer.Typer(help="Train a tokenizer, and look at how one cuts text.", no_args_is_help=True)

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green")


@app.command()
def train(
    *,
    inputs: Annotated[
        list[Path], typer.Option("--input", help="A UTF-8 text file; may be given several times.")
    ],
    vocab_size: Annotated[int, typer.Option(help="Tokens in all, at least 257.")],
    output: Annotated[Path, typer.Option(help="Directory to write; nothing there is replaced.")],
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="Accept fewer tokens where the text is short.")
    ] = False,
) -> None:
    """Learn a byte-level BPE tokenizer and write it for stemma and for Hugging Face."""
    from rich.console import Console
    from rich.progress import Progress

    from stemma.errors import TokenizerError
    from stemma.tokenizers import ByteLevelBPE
    from stemma.tokenizers.files import TOKENIZER
    from stemma.tokenizers.text_files import read_chunks

    if (output / TOKENIZER).exists():
        raise TokenizerError(
            "there is a tokenizer already",
            where=str(output),
            cure="Choose another --output, or remove that one first.",
        )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("learning merges", total=None)
        tokenizer = ByteLevelBPE.train(
            read_chunks(inputs),
            vocab_size,
            allow_fewer=allow_fewer,
            progress=lambda done, wanted: bar.update(task, completed=done, total=wanted),
        )
    tokenizer.save(output)
    typer.echo(f"{output}: {tokenizer.vocab_size:,} tokens, {len(tokenizer.merges):,} merges")


def _of_run(path: Path) -> Path:
    """A run's tokenizer, if the path is that of a run."""
    return path / "tokenizer" if (path / "recipe.toml").exists() else path


@app.command()
def show(
    text: Annotated[str, typer.Argument(help="The text to cut.")],
    *,
    tokenizer: Annotated[
        str, typer.Option(help="gpt2, a run, a tokenizer's directory, or a tokenizer.json.")
    ] = "gpt2",
) -> None:
    """Show the tokens of a text in turns of colour, with their ids."""
    from rich.console import Console
    from rich.text import Text

    from stemma.tokenizers import gpt2, load_tokenizer

    named = tokenizer == "gpt2" and not Path(tokenizer).exists()
    chosen = gpt2() if named else load_tokenizer(_of_run(Path(tokenizer)))
    ids = chosen.encode(text).tolist()
    console = Console(highlight=False, soft_wrap=True)
    cut, numbers = Text(), Text()
    for i, id_ in enumerate(ids):
        style = _STYLES[i % len(_STYLES)]
        bar = "" if console.is_terminal or i == 0 else "|"
        cut.append(bar).append(_spell(chosen, id_), style)
        numbers.append(" " if i else "").append(str(id_), style)
    console.print(cut)
    console.print(numbers)
    n_bytes = len(text.encode())
    ratio = f", {n_bytes / len(ids):.2f} bytes per token" if ids else ""
    typer.echo(f"{len(ids)} tokens, {n_bytes} bytes{ratio}")


def _spell(tokenizer: Tokenizer, id_: int) -> str:
    """A token as one visible line; bytes that are no character by themselves as ``<e2 80>``."""
    data = tokenizer.token_bytes(id_)
    try:
        shown = data.decode()
    except UnicodeDecodeError:
        return f"<{data.hex(' ')}>"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
