"""argv -> one command of one package.

Each package brings its own ``commands.py``. Only the module of the command that was asked for is
imported, so that ``stemma --help`` answers at once and no command pays for another's libraries.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from inspect import cleandoc
from typing import NamedTuple

import typer

from stemma import __version__
from stemma.errors import StemmaError, reason


class Command(NamedTuple):
    """Where a command lives, and the line that ``stemma --help`` shows for it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "quickstart": Command(
        "stemma.lab.commands",
        "quickstart_command",
        "Raw text to a trained, measured language model, in one go.",
    ),
    "train": Command(
        "stemma.lab.commands", "train_command", "Run a recipe: tokenizer, data, model, report."
    ),
    "resume": Command(
        "stemma.lab.commands", "resume_command", "Continue a run from its last checkpoint."
    ),
    "recipes": Command("stemma.lab.commands", "recipes", "List and print the shipped recipes."),
    "pull": Command(
        "stemma.hub.commands",
        "pull_command",
        "Have a model, a tokenizer or a text on this machine, and see where.",
    ),
    "export": Command(
        "stemma.hub.commands",
        "export_command",
        "Write a model for other tools: as Hugging Face's, or as llama.cpp's GGUF.",
    ),
    "push": Command(
        "stemma.hub.commands", "push_command", "Upload a model directory to the Hugging Face Hub."
    ),
    "generate": Command(
        "stemma.inference.commands", "generate_command", "Continue a prompt with a model."
    ),
    "chat": Command("stemma.inference.chat_commands", "chat_command", "Talk with a model."),
    "inspect": Command(
        "stemma.inference.inspect_command",
        "inspect_command",
        "The parts of a model with their shapes, and what it costs to keep and to run.",
    ),
    "evaluate": Command(
        "stemma.evaluation.commands",
        "evaluate_command",
        "Loss, perplexity and bits per byte of a model on a text.",
    ),
    "tokenizer": Command(
        "stemma.tokenizers.commands", "app", "Train a tokenizer, and look at how one cuts text."
    ),
    "data": Command("stemma.data.commands", "app", "Turn text into token shards, and check them."),
}


def build_app(wanted: str | None) -> typer.Typer:
    """The command-line application, with the ``wanted`` command imported and the others named."""
    app = typer.Typer(
        name="stemma",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="A GPT-class language model from nothing: build it, train it, look inside, use it.",
        epilog="Start with: stemma quickstart",
    )

    app.callback()(_global_options)
    for name, command in COMMANDS.items():
        target = (
            getattr(import_module(command.module), command.attribute) if name == wanted else None
        )
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=command.summary)
        else:
            text = _paragraphs(target.__doc__ or "") if target else command.summary
            app.command(name, help=text)(target or _named_only)
    return app


def _paragraphs(docstring: str) -> str:
    """A docstring with each paragraph on one line: typer keeps the ends of lines but the first."""
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(docstring).split("\n\n"))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"stemma {__version__}")
        raise typer.Exit


def _global_options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    traceback: bool = typer.Option(
        False, "--traceback", help="Show the whole traceback of an error."
    ),
) -> None: ...


def _named_only() -> None:
    """Stand for a command whose module has not been imported."""


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a line for users, without the place in the code that gave it."""
    typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)


def _announce_compiling() -> None:
    from stemma.tokenizers import kernels

    note = "compiling machine code for this processor: about 20 seconds, once on this machine"
    kernels.before_compiling[:] = [lambda: typer.echo(note, err=True)]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a `StemmaError` becomes one message and exit status 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    wanted = next((argument for argument in arguments if argument in COMMANDS), None)
    app = build_app(wanted)
    if "--traceback" in arguments:
        arguments = ["--traceback", *(a for a in arguments if a != "--traceback")]
        app(arguments)
        return
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if wanted:
                _announce_compiling()
            app(arguments)
    except (StemmaError, OSError) as error:
        typer.secho("error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
        named = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        typer.echo(f"{named}{reason(error)}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was finished is kept.", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
