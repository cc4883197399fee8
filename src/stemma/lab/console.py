"""What a person sees while a run goes on: stages, tables and progress, or plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

_PLAIN_LINES_PER_TASK = 12
_TOKEN_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green")


class Console:
    """Prints a run's story; a terminal gets colour and moving bars, a file gets plain lines."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._rich = RichConsole(quiet=quiet, highlight=False, soft_wrap=True)
        self._stage = 0

    def stage(self, title: str) -> None:
        """Open the next numbered part of the story."""
        self._stage += 1
        self._rich.print(f"\n[bold cyan]{self._stage}  {escape(title)}[/]")

    def say(self, text: str = "", style: str | None = None) -> None:
        """One paragraph, as it is."""
        self._rich.print(escape(text), style=style)

    def quote(self, text: str, most: int = 12) -> None:
        """Text that is not ours, indented: its first lines, each cut where it gets too long."""
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines[:most]:
            self._rich.print(f"   [dim]|[/] {escape(line[:96])}")
        if len(lines) > most:
            self._rich.print(f"   [dim]| ... {len(lines) - most} more lines[/]")

    def tokens(self, pieces: Sequence[str]) -> None:
        """A sentence as its tokens, each in the next colour."""
        pieces = [piece.replace("\n", "\u23ce") for piece in pieces]
        if not self._rich.is_terminal:
            self._rich.print("   " + escape("|".join(pieces)))
            return
        parts = (
            f"[{_TOKEN_STYLES[i % len(_TOKEN_STYLES)]}]{escape(piece)}[/]"
            for i, piece in enumerate(pieces)
        )
        self._rich.print("   " + "".join(parts))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], bold_row: int) -> None:
        """A table; every column but the first is aligned to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for i, row in enumerate(rows):
            table.add_row(*map(escape, row), style="bold green" if i == bold_row else None)
        self._rich.print(table)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[ProgressLine]:
        """A bar with rate and time left; in a log, a dozen lines."""
        if not self._rich.is_terminal:
            yield PlainProgress(self._rich, title, total)
            return
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        with Progress(*columns, console=self._rich, transient=False) as bars:
            yield BarProgress(bars, title, total)


class ProgressLine:
    """One piece of long work."""

    def update(self, done: int, note: str = "") -> None:
        """``done`` units are finished; ``note`` tells the rate and what else matters."""
        raise TypeError("an abstract progress line cannot be shown")


class BarProgress(ProgressLine):
    """A moving bar."""

    def __init__(self, bars: Progress, title: str, total: int) -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        """Move the bar."""
        self._bars.update(self._task, completed=done, note=note)


class PlainProgress(ProgressLine):
    """Lines for a log: one every twelfth of the work, each complete in itself."""

    def __init__(self, console: RichConsole, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, max(total, 1)
        self._first: tuple[int, float] | None = None
        self._printed = 0

    def update(self, done: int, note: str = "") -> None:
        """Print a line if another twelfth is done."""
        if self._first is None:
            self._first = done, time.perf_counter()
        part = done * _PLAIN_LINES_PER_TASK // self._total
        if part <= self._printed:
            return
        self._printed = part
        first, started = self._first
        rate = (time.perf_counter() - started) / max(done - first, 1)
        line = f"   {self._title} {done}/{self._total}  {note}"
        if done > first:
            line += f"  {rate * (self._total - done):.0f} s left"
        self._console.print(escape(line))
        sys.stdout.flush()
