"""A conversation in a terminal, or through a pipe: lines in, answers out as they come."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemma.errors import ConfigError, StemmaError
from stemma.inference.chat_file import load_chat, save_chat
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.inference.chat import Chat, Reply

FENCE = '"""'
"""Begins and ends a message of several lines."""

_HELP = {
    "/system TEXT": "what the model is told about its task; without TEXT nothing",
    "/set NAME VALUE": "change the sampling; /set shows all of it, none takes a rule away",
    "/show": "the sampling, the system message, and how full the context is",
    "/retry": "answer the last question again",
    "/undo": "take the last question and its answer back",
    "/reset": "forget the conversation",
    "/save FILE": "write it to a file; /save! replaces one that is there",
    "/load FILE": "go on with one from a file",
    "/help": "this",
    "/exit": "leave; so do /quit and the end of the input (Ctrl-D)",
}


class ChatTerminal:
    """Runs a conversation over lines of input.

    Args:
        chat: the conversation.
        show: prints a piece of an answer, without a line's end.
        note: prints a line about the conversation.
        statistics: whether to say how fast each answer was.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        show: Callable[[str], None],
        note: Callable[[str], None],
        statistics: bool = False,
    ) -> None:
        self.chat = chat
        self._show = show
        self._note = note
        self._statistics = statistics
        self._own_files: set[Path] = set()

    def run(self, lines: Iterable[str]) -> None:
        """Take turns until the lines end or ``/exit``; an error ends a turn, not the chat."""
        for turn in turns_of(lines):
            try:
                if turn.split()[:1] in (["/exit"], ["/quit"]):
                    return
                if turn.startswith("/"):
                    self._command(turn)
                elif turn.strip():
                    self._ask(turn)
            except StemmaError as error:
                self._note(f"error: {error}")

    def _ask(self, question: str) -> None:
        pieces = self.chat.ask(question)
        begun = False
        try:
            while True:
                piece = next(pieces)
                if not begun:
                    piece = piece.lstrip()
                begun = begun or bool(piece)
                self._show(piece)
        except StopIteration as end:
            self._show("\n")
            self._say_about(end.value)
        except KeyboardInterrupt:
            pieces.close()
            self._show("\n")
            self._note("(interrupted; what was said is kept)")

    def _say_about(self, reply: Reply) -> None:
        if reply.n_dropped:
            self._note(f"(the context is full: the {reply.n_dropped} oldest messages were dropped)")
        if reply.finish_reason == "length":
            self._note("(cut off: /set max_new_tokens allows longer answers)")
        if reply.finish_reason == "context":
            self._note("(cut off: the context is full; /reset or /undo make room)")
        if self._statistics:
            self._note(
                f"({reply.n_tokens:,} tokens, {reply.tokens_per_second:,.0f} tokens/s; "
                f"first after {reply.first_token:.2f} s: {reply.n_prompt - reply.n_reused:,} of "
                f"{reply.n_prompt:,} prompt tokens were new)"
            )

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        commands: dict[str, Callable[[str], None]] = {
            "/system": self._system,
            "/set": self._set,
            "/show": self._show_all,
            "/retry": self._retry,
            "/undo": self._undo,
            "/reset": self._reset,
            "/save": self._save,
            "/save!": self._replace,
            "/load": self._load,
            "/help": self._help,
        }
        if name in commands:
            commands[name](rest)
            return
        close = difflib.get_close_matches(name, [*commands, "/exit"], n=1)
        hint = f"did you mean {close[0]}?" if close else "/help lists the commands"
        self._note(f"there is no command {name}: {hint}")

    def _system(self, text: str) -> None:
        self.chat.system = text
        self._note("(the model is told so from the next answer on)" if text else "(empty)")

    def _set(self, text: str) -> None:
        if not text:
            chosen = {**self.chat.sampling.model_dump(), "max_new_tokens": self.chat.max_new_tokens}
            for name, value in chosen.items():
                self._note(f"{name:<20} {'none' if value is None else value}")
            return
        name, value = name_and_value(text)
        set_sampling(self.chat, name, value)
        self._note(f"({self._sampling()})")

    def _show_all(self, _: str) -> None:
        n_asked = sum(message["role"] == "user" for message in self.chat.messages)
        context = self.chat.context_length
        room = "" if context is None else f" of {context:,}"
        self._note(f"sampling: {self._sampling()}")
        self.show_system()
        questions = "1 question" if n_asked == 1 else f"{n_asked} questions"
        self._note(f"conversation: {questions}, {self.chat.n_prompt():,}{room} tokens")
        self._note(f"format: {self.chat.format.name}")

    def show_system(self) -> None:
        """Say which system message is in force."""
        system = self.chat.system
        none = "none" if system is not None else "the format's own, if it has one"
        self._note(f"system: {system or f'{none}; /system TEXT sets one'}")

    def _sampling(self) -> str:
        rules = self.chat.sampling.model_dump(exclude_defaults=True)
        shown = {"temperature": self.chat.sampling.temperature, **rules}
        shown["max_new_tokens"] = self.chat.max_new_tokens
        return ", ".join(f"{name} {value}" for name, value in shown.items())

    def _retry(self, _: str) -> None:
        question = self.chat.undo()
        if question is None:
            self._note("(there is no question yet)")
        else:
            self._ask(question)

    def _undo(self, _: str) -> None:
        question = self.chat.undo()
        self._note("(nothing to take back)" if question is None else f"(taken back: {question})")

    def _reset(self, _: str) -> None:
        self.chat.reset()
        self._note("(forgotten)")

    def _save(self, text: str, *, replace: bool = False) -> None:
        path = _named(text, "/save")
        before = "replaced" if path.exists() else "saved to"
        own = path.resolve() in self._own_files
        self._own_files.add(save_chat(self.chat, path, overwrite=own or replace).resolve())
        self._note(f"({before} {path})")

    def _replace(self, text: str) -> None:
        self._save(text, replace=True)

    def _load(self, text: str) -> None:
        self.load(_named(text, "/load"))

    def load(self, path: Path) -> None:
        """Go on with a conversation from a file, which ``/save`` may then replace."""
        load_chat(self.chat, path)
        self._own_files.add(path.expanduser().resolve())
        self._note(f"({len(self.chat.messages)} messages from {path})")

    def _help(self, _: str) -> None:
        for usage, meaning in _HELP.items():
            self._note(f"{usage:<16} {meaning}")
        self._note(f"{FENCE:<16} begins and ends a message of several lines")


def turns_of(lines: Iterable[str]) -> Iterator[str]:
    """Lines -> messages: each line is one, and so is what stands between two fences."""
    block: list[str] | None = None
    for raw in lines:
        line = raw.rstrip("\r\n")
        if block is not None:
            head, fence, _ = line.partition(FENCE)
            block.append(head)
            if fence:
                yield "\n".join(block).strip("\n")
                block = None
        elif line.lstrip().startswith(FENCE):
            inner = line.lstrip().removeprefix(FENCE)
            head, fence, _ = inner.partition(FENCE)
            if fence:
                yield head
            else:
                block = [head]
        else:
            yield line
    if block is not None:
        yield "\n".join(block).strip("\n")


def name_and_value(text: str) -> tuple[str, str]:
    """``NAME VALUE`` or ``NAME=VALUE``, cut in two.

    Raises:
        ConfigError: if one of them is missing.
    """
    name, *value = re.split(r"\s*=\s*|\s+", text.strip(), maxsplit=1)
    if not name or not value or not value[0]:
        raise ConfigError(
            f"a name and a value are needed, not {text!r}",
            where="sampling",
            cure="Write for example: temperature 0.7, or temperature=0.7.",
        )
    return name, value[0]


def set_sampling(chat: Chat, name: str, value: str) -> None:
    """Change one number; ``none`` or ``default`` puts it back.

    Raises:
        ConfigError: if there is no such number, or the value is none for it.
    """
    if value in ("none", "default"):
        if name not in SamplingConfig.model_fields:
            raise ConfigError(f"{name!r} has no default", where="sampling")
        chat.sampling = chat.sampling.replace(**{name: SamplingConfig.model_fields[name].default})
        return
    if name == "max_new_tokens":
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(f"max_new_tokens = {value}: a number from 1 on", where="sampling")
        chat.max_new_tokens = int(value)
        return
    chat.sampling = SamplingConfig.parse(
        {**chat.sampling.model_dump(), name: _value(value)}, source="sampling"
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _named(text: str, command: str) -> Path:
    if not text:
        raise ConfigError("a file is needed", where=command)
    return Path(text).expanduser()
