"""``stemma pull``, ``stemma export`` and ``stemma push``: models in, models out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stemma.hub.fetching import Pulled

_MANY_FILES = 8


def pull_command(
    name: Annotated[
        str,
        typer.Argument(help="A name of the catalog, owner/repo[@revision], an address, or a path."),
    ] = "",
    *,
    to: Annotated[
        Path | None, typer.Option(help="A directory to put the files into; the cache by default.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What a single file must have.")] = None,
    list_names: Annotated[
        bool, typer.Option("--list", help="Show what the catalog has; so does no name at all.")
    ] = False,
) -> None:
    """Have a model, a tokenizer or a text on this machine, and see where.

    Fetching goes on where it was interrupted. What comes is compared with its checksum. A name is
    looked for in the cache (STEMMA_CACHE), in a mirror folder (STEMMA_MIRROR), then in the network,
    unless STEMMA_OFFLINE is set.
    """
    from stemma.hub.fetching import pull
    from stemma.hub.progress import ProgressLine

    if list_names or not name:
        _show_catalog()
        return
    _show_pulled(name, pull(name, to=to, sha256=sha256, progress=ProgressLine()))


def _show_catalog() -> None:
    from stemma.hub.catalog import catalog, is_here

    rows = [
        (name, entry.kind, "here" if is_here(entry) else "", entry.licence, entry.description)
        for name, entry in catalog().items()
    ]
    rows.sort(key=lambda row: (row[1], row[0].lower()))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, row[4]]))


def _show_pulled(name: str, found: Pulled) -> None:
    typer.echo(f"{found.path}")
    for path, sha256 in list(found.files.items())[:_MANY_FILES]:
        typer.echo(f"  {path.stat().st_size:>15,} bytes  sha256 {sha256}  {path.name}")
    if (more := len(found.files) - _MANY_FILES) > 0:
        typer.echo(f"  and {more} files more, {found.n_bytes:,} bytes in all")
    typer.echo(f"licence: {found.licence or 'not stated: look where it comes from'}")
    if following := _next(name, found):
        typer.echo(f"next: {following}")


def _next(name: str, found: Pulled) -> str | None:
    """What may be done with it."""
    from stemma.hub.opening import can_generate

    if found.kind == "text" and found.path.is_file() and found.path.suffix != ".zip":
        return f"stemma data prepare {found.path} --tokenizer gpt2 --output data"
    if can_generate(found.path):
        short = name if found.kind else found.path
        return f'stemma generate {short} "Once upon a time"'
    return None
