"""What the commands of a model share: options, and which file a folder stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DtypeOption = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(
        help="Precision of the weights: that of the files by default, but bfloat16 for GGUF where "
        "the processor multiplies it."
    ),
]
QuantiseOption = Annotated[
    Literal["int8", "int4"] | None,
    typer.Option(help="Put the weights into few bits: faster, smaller, and a little worse."),
]


def note_file(name: str | Path) -> None:
    """Say on standard error which file of a folder is opened."""
    from stemma.hub import find_model

    folder = Path(name).expanduser()
    if folder.is_dir() and (file := find_model(folder)).is_file():
        typer.echo(f"opening {file}", err=True)
