"""`stemma inspect`: what a model is made of and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer


def inspect_command(
    model: Annotated[
        str, typer.Argument(help="A model directory, a run, a file, a name, or an architecture.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False,
) -> None:
    """The parts of a model with their shapes, and what it costs to keep and to run.

    Only its configuration is read: a model of any size is inspected in about a second.
    """
    import json
    import shutil

    from stemma import hub
    from stemma.inference.inspection_text import summary_lines, tree_lines
    from stemma.inference.options import note_file
    from stemma.models import inspect_config

    note_file(model)
    inspection = inspect_config(hub.read_config(model))
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), indent=2))
        return
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    for line in tree_lines(inspection.tree, width):
        typer.echo(line)
    typer.echo()
    for line in summary_lines(inspection):
        typer.echo(line)
