"""`stemma chat`: a conversation with a model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemma.inference.options import DtypeOption, QuantiseOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stemma.inference.chat import Chat
    from stemma.models import LanguageModel
    from stemma.tokenizers import Tokenizer


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

    from stemma.hub import find_model
    from stemma.hub.catalog import ChatHabits, catalog
    from stemma.inference.chat_terminal import ChatTerminal, set_sampling
    from stemma.inference.commands import load_as_asked

    interactive = sys.stdin.isatty()
    habits = catalog()[model].chat if model in catalog() else ChatHabits()
    chat = _open(
        find_model(model),
        sampling=habits.sampling,
        load=lambda place: load_as_asked(place, dtype, quantise),
        transcript=transcript,
        max_new_tokens=max_new_tokens,
    )
    terminal = ChatTerminal(
        chat,
        show=lambda piece: typer.echo(piece, nl=False),
        note=lambda line: typer.secho(line, err=True, dim=True),
        statistics=interactive,
    )
    if load is not None:
        terminal.load(load)
    if load is None:
        chat.system = habits.system
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


def _open(
    place: Path,
    *,
    sampling: dict[str, float],
    load: Callable[[Path], tuple[LanguageModel, Tokenizer]],
    transcript: bool,
    max_new_tokens: int,
) -> Chat:
    from stemma.hub import read_manners
    from stemma.inference.chat import CHAT_SAMPLING, Chat
    from stemma.inference.chat_format import ChatFormat, TemplateFormat, TranscriptFormat
    from stemma.inference.sampling_config import SamplingConfig
    from stemma.inference.text import end_ids
    from stemma.tokenizers import ChatTemplate

    loaded, tokenizer = load(place)
    manners = read_manners(place, tokenizer)
    ends = end_ids(tokenizer) | frozenset(manners.eos)
    format_: ChatFormat = TranscriptFormat(tokenizer, ends)
    if manners.chat_template is not None and not transcript:
        format_ = TemplateFormat(ChatTemplate.from_file(place), tokenizer, ends)
    said = sampling or manners.sampling()
    rules = SamplingConfig.parse(said, source=str(place)) if said else CHAT_SAMPLING
    return Chat(loaded, tokenizer, format_, sampling=rules, max_new_tokens=max_new_tokens)


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
