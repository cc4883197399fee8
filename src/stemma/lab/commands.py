"""The commands of the lab: quickstart, train, resume, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

recipes = typer.Typer(no_args_is_help=False)

_OUTPUT = Annotated[
    Path | None, typer.Option("--output", "-o", help="Run directory; default runs/<name>.")
]
_SET = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value: --set model.n_layers=8 (repeatable)."),
]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def quickstart_command(
    text: Annotated[
        str | None,
        typer.Option("--text", help="Your own text: a file, a folder, or - for standard input."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What the samples continue.")] = None,
    output: _OUTPUT = None,
    settings: _SET = None,
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
) -> None:
    """Raw text to a trained, measured language model, in one go."""
    from stemma.lab.quickstart import quickstart

    _finish(
        quickstart(
            text,
            prompt=prompt,
            directory=output,
            overrides=settings or [],
            overwrite=overwrite,
            quiet=quiet,
        ).finished
    )


def train_command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name or a TOML file.")],
    output: _OUTPUT = None,
    settings: _SET = None,
    overwrite: _OVERWRITE = False,
    quiet: _QUIET = False,
) -> None:
    """Run a recipe: tokenizer, data, model, report."""
    from stemma.lab import train

    _finish(
        train(recipe, output, overrides=settings or [], overwrite=overwrite, quiet=quiet).finished
    )


def resume_command(
    run: Annotated[Path, typer.Argument(help="The run's directory.")],
    settings: _SET = None,
    quiet: _QUIET = False,
) -> None:
    """Continue a run from its last checkpoint."""
    from stemma.lab import resume

    _finish(resume(run, overrides=settings or [], quiet=quiet).finished)


@recipes.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List and print the shipped recipes."""
    if context.invoked_subcommand is not None:
        return
    from stemma.lab.shelf import shipped_recipes

    shelf = shipped_recipes()
    width = max(map(len, shelf))
    for name, description in shelf.items():
        typer.echo(f"{name:{width}}  {description}")


@recipes.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe's name or a TOML file.")],
    settings: _SET = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With every default and inherited value written out.")
    ] = False,
) -> None:
    """Print a recipe as TOML, ready to be edited."""
    from stemma.lab.shelf import recipe_text

    if not resolved and not settings:
        typer.echo(recipe_text(name), nl=False)
        return
    from stemma.config import to_toml
    from stemma.lab.recipe import load_recipe

    typer.echo(to_toml(load_recipe(name, settings or [])), nl=False)


def _finish(finished: bool) -> None:
    if not finished:
        raise typer.Exit(130)
