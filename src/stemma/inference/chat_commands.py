"""`stemma chat`: a conversation with a model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 512,
    load: Annotated[Path | None, typer.Option(help="Go on with a saved conversation.")] = None,
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

    from stemma.inference.chat_terminal import ChatTerminal, set_sampling

    interactive = sys.stdin.isatty()
    chat = _open(model, transcript=transcript, max_new_tokens=max_new_tokens)
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
    for setting in settings or ():
        name, _, value = setting.partition("=")
        set_sampling(chat, name.strip(), value.strip())
    if interactive:
        typer.secho(f"{model}: {chat.format.name}. /help, /exit.", err=True, dim=True)
    terminal.run(_typed() if interactive else _piped())
    if interactive:
        typer.echo()


def _open(model: str, *, transcript: bool, max_new_tokens: int) -> Chat:
    from stemma import hub
    from stemma.hub.generation_defaults import generation_defaults
    from stemma.inference.chat import CHAT_SAMPLING, Chat
    from stemma.inference.chat_format import ChatFormat, TemplateFormat, TranscriptFormat
    from stemma.inference.sampling_config import SamplingConfig
    from stemma.inference.text import end_ids

    place = hub.find_model(model)
    defaults = generation_defaults(place)
    loaded, tokenizer = hub.load(place)
    ends = end_ids(tokenizer) | frozenset(defaults.end_ids)
    format_: ChatFormat = TranscriptFormat(tokenizer, ends)
    if defaults.template is not None and not transcript:
        format_ = TemplateFormat(defaults.template, tokenizer, ends)
    sampling = CHAT_SAMPLING
    if defaults.sampling:
        sampling = SamplingConfig.parse(defaults.sampling, source=str(place))
    return Chat(loaded, tokenizer, format_, sampling=sampling, max_new_tokens=max_new_tokens)


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
