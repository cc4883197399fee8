"""``stemma pull``, ``stemma export`` and ``stemma push``: models in, models out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from stemma.hub.fetching import Pulled

_MANY_FILES = 8


def pull_command(
    name: Annotated[
        str,
        typer.Argument(
            help=r"A name of the catalog, owner/repo\[@revision], an address, or a path."
        ),
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


def export_command(
    model: Annotated[str, typer.Argument(help="A model directory, a run, a file, or a name.")],
    out: Annotated[Path, typer.Argument(help="The directory (hf) or file (gguf) to write.")],
    *,
    to: Annotated[
        Literal["hf", "gguf"] | None,
        typer.Option(
            help="hf: a directory for `transformers`; gguf: a file for llama.cpp. By default gguf "
            "where the name of OUT ends in .gguf, else hf."
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="f32, f16 or bf16; for gguf also q8_0 and q4_0. By default what the model has, "
            "but f16 for a gguf of 32 bits."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a model for other tools: as Hugging Face's, or as llama.cpp's GGUF.

    The tokenizer, the chat template and the model card go with it.
    """
    from stemma.hub.exporting import export, written_as
    from stemma.hub.progress import saying

    with saying(f"writing {out}"):
        path = export(model, out, to=to, dtype=dtype, overwrite=overwrite)
    files = [path] if path.is_file() else sorted(path.iterdir())
    for file in files:
        typer.echo(f"  {file.stat().st_size:>15,} bytes  {file}")
    n_bytes = sum(file.stat().st_size for file in files)
    typer.echo(f"written: {path} ({written_as(path)}, {n_bytes / 1e6:,.1f} MB)")
    following = f"llama-cli -m {path}" if path.is_file() else f"stemma push {path} OWNER/REPO"
    typer.echo(f"next: {following}")


def push_command(
    directory: Annotated[Path, typer.Argument(help="A model directory, as export wrote it.")],
    repo: Annotated[str, typer.Argument(help="owner/repo on the Hugging Face Hub.")],
    *,
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is seen by you alone.")
    ] = False,
) -> None:
    """Upload a model directory to the Hugging Face Hub.

    Its checksums are compared first, and nothing but the parts of a model is sent.
    """
    from stemma.hub.pushing import push

    typer.echo(push(directory, repo, private=private))


def _show_catalog() -> None:
    import shutil
    import textwrap

    from stemma.hub.catalog import catalog, is_here

    rows = [("name", "kind", "here", "what it is (licence)")]
    for name, entry in sorted(catalog().items(), key=lambda row: (row[1].kind, row[0].lower())):
        what = f"{entry.description} ({entry.licence})"
        if entry.kind == "model" and not entry.opens:
            what += "; files alone, which load does not read"
        rows.append((name, entry.kind, "yes" if is_here(entry) else "", what))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        head = "  ".join(cells) + "  "
        first, *others = textwrap.wrap(row[3], max(columns - len(head), 30))
        for line in (head + first, *(" " * len(head) + other for other in others)):
            typer.echo(line)


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
