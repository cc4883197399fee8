"""`stemma chat`: a conversation with a model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stemma.inference.options import DtypeOption, QuantiseOption, note_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stemma.inference.chat import Chat


def chat_command(
    model: Annotated[str, typer.Argument(help="A model directory, a run, a file, or a name.")],
    *,
    system: Annotated[
        str | None, typer.Option(help="What the model is told about its task.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="The sampling, as /set: --set temperature=0."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of an answer; 512 by default.")
    ] = None,
    load: Annotated[Path | None, typer.Option(help="Go on with a saved conversation.")] = None,
    dtype: DtypeOption = None,
    quantise: QuantiseOption = None,
    transcript: Annotated[
        bool,
        typer.Option("--transcript", help="Leave the chat template: a User/Bot transcript."),
    ] = False,
) -> None:
    """Talk with a model.

    /help lists what can be said to the program instead. Answers come as they are generated, and
    Ctrl-C stops one. Where the input is no terminal, each line is one turn and only answers go to
    standard output.
    """
    import sys

    from stemma.inference.chat_file import read_chat
    from stemma.inference.chat_terminal import ChatTerminal, name_and_value, set_sampling

    chosen = [name_and_value(setting) for setting in settings or ()]
    if load is not None:
        read_chat(load)
    interactive = sys.stdin.isatty()
    chat = _open(model, dtype, quantise, transcript=transcript)
    terminal = ChatTerminal(
        chat,
        show=lambda piece: typer.echo(piece, nl=False),
        note=lambda line: typer.secho(line, err=True, dim=True),
        statistics=interactive,
    )
    if load is not None:
        terminal.load(load)
    if system is not None:
        chat.system = system
    if max_new_tokens is not None:
        chat.max_new_tokens = max_new_tokens
    for name, value in chosen:
        set_sampling(chat, name, value)
    if interactive:
        typer.secho(f"{model}: {chat.format.name}. /help, /exit.", err=True, dim=True)
        terminal.show_system()
    terminal.run(_typed() if interactive else _piped())
    if interactive:
        typer.echo()


def _open(
    name: str,
    dtype: Literal["float32", "bfloat16"] | None,
    bits: Literal["int8", "int4"] | None,
    *,
    transcript: bool,
) -> Chat:
    """A conversation that has not begun, in the manners of its model."""
    from stemma.hub import find_model, read_manners
    from stemma.hub.catalog import ChatHabits, catalog
    from stemma.inference.chat import CHAT_SAMPLING, Chat
    from stemma.inference.chat_format import ChatFormat, TemplateFormat, TranscriptFormat
    from stemma.inference.commands import load_as_asked
    from stemma.inference.sampling_config import SamplingConfig
    from stemma.tokenizers import ChatTemplate

    habits = catalog()[name].chat if name in catalog() else ChatHabits()
    note_file(name)
    place = find_model(name)
    loaded, tokenizer = load_as_asked(place, dtype, bits, called=name)
    manners = read_manners(place, tokenizer)
    format_: ChatFormat = TranscriptFormat(tokenizer, tokenizer.end_ids)
    if manners.chat_template is not None and not transcript:
        format_ = TemplateFormat(ChatTemplate.from_file(place), tokenizer, tokenizer.end_ids)
    said = habits.sampling or manners.sampling()
    rules = SamplingConfig.parse(said, source=str(place)) if said else CHAT_SAMPLING
    chat = Chat(loaded, tokenizer, format_, sampling=rules)
    chat.system = habits.system
    return chat


def _typed() -> Iterator[str]:
    """Lines from a terminal, with its history; Ctrl-C empties the line."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then has a history
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            typer.secho("\n(/exit or Ctrl-D leaves)", err=True, dim=True)


def _piped() -> Iterator[str]:
    import sys

    for line in sys.stdin.buffer:
        yield line.decode("utf-8", errors="replace")
