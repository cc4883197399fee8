"""`stemma evaluate`: what a model makes of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stemma.evaluation import Evaluation


def evaluate_command(
    model: Annotated[str, typer.Argument(help="A model directory, a run, or a name.")],
    text: Annotated[
        str, typer.Option("--text", help="A file or folder of text; - reads standard input.")
    ],
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens by which the windows advance; half the context by default."),
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(help="Length of the windows; the model's own by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows at once.")] = 16,
) -> None:
    """Loss, perplexity and bits per byte of a model on a text."""
    from rich.console import Console
    from rich.progress import Progress

    from stemma.data import TokenArray, read_documents
    from stemma.evaluation import evaluate
    from stemma.hub import load

    loaded, tokenizer = load(model)
    tokens = TokenArray.encode(read_documents(text), tokenizer)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=len(tokens))
        result = evaluate(
            loaded,
            tokens,
            start_token=tokenizer.end_of_text,
            context_length=context_length,
            stride=stride,
            batch_size=batch_size,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    typer.echo(describe(result))


def describe(result: Evaluation) -> str:
    """The evaluation as lines of text."""
    error = result.bits_per_byte_error
    windows = (
        "all tokens before each"
        if result.context_length is None
        else f"windows of {result.context_length:,} tokens, stride {result.stride:,}"
    )
    rows = {
        "bits per byte": f"{result.bits_per_byte:.4f}" + (f" ± {error:.4f}" if error else ""),
        "bits per token": f"{result.bits_per_token:.4f}",
        "loss": f"{result.loss:.4f} nats per token",
        "perplexity": f"{result.perplexity:,.2f}",
        "text": f"{result.n_tokens:,} tokens, {result.n_bytes:,} bytes",
        "context": windows,
    }
    return "\n".join(f"{name:<16}{value}" for name, value in rows.items())
