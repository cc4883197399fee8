"""Training a tokenizer of any family from files: what ``stemma tokenizer train`` does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stemma import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.text_files import read_chunks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from stemma.tokenizers.tokenizer import Tokenizer

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex")
HEAD_BYTES = 1 << 20
_PLAIN_LINES = 10
_SECONDS_BETWEEN_LINES = 5.0


class Family(NamedTuple):
    """The name of a family's class in `stemma.tokenizers`, and what its training counts."""

    name: str
    unit: str = "tokens"


FAMILIES = {
    "bpe": Family("ByteLevelBPE"),
    "unigram": Family("UnigramTokenizer", "rounds"),
    "wordpiece": Family("WordPiece"),
    "grapheme": Family("GraphemeBPE"),
    "characters": Family("CharacterBPE"),
    "basic": Family("BasicBPE"),
    "character": Family("CharacterTokenizer"),
    "word": Family("WordTokenizer"),
}


def train_family(
    family: str,
    inputs: Sequence[Path],
    vocab_size: int,
    console: Console,
    **options: Any,
) -> Tokenizer:
    """Train a tokenizer on files and folders, and show how far it is.

    Args:
        family: a name of `FAMILIES`.
        inputs: UTF-8 files, and folders of them.
        vocab_size: number of tokens.
        console: where progress is shown.
        options: further arguments of the family's ``train``; None is the same as not given.

    Raises:
        TokenizerError: if there is no such family, it lacks an option, or training fails.
    """
    if family not in FAMILIES:
        raise TokenizerError(
            f"there is no family {family!r}", cure=f"Choose one of {', '.join(FAMILIES)}."
        )
    found = FAMILIES[family]
    cls = getattr(tokenizers, found.name)
    files = text_files(inputs)
    accepted = signature(cls.train).parameters
    given = {name: value for name, value in options.items() if value not in (None, False, [])}
    for name in given:
        if name not in accepted:
            flag = name.replace("_", "-").removesuffix("s")
            raise TokenizerError(f"the family {family} has no option --{flag}")
    n_bytes = sum(path.stat().st_size for path in files)
    with shown(console, n_bytes, found.unit) as progress:
        if "progress" in accepted:
            given["progress"] = progress.learning
        trained: Tokenizer = cls.train(progress.reading(read_chunks(files)), vocab_size, **given)
    return trained


def text_files(inputs: Sequence[Path]) -> list[Path]:
    """The files meant: of a folder those with the suffix of a text, in the order of their paths.

    Raises:
        TokenizerError: if a path is missing, or a folder has no such file.
    """
    files: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise TokenizerError("there is no such file or folder", where=str(path))
        if not path.is_dir():
            files.append(path)
            continue
        inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in TEXT_SUFFIXES)
        found = [p for p in inside if p.is_file() and not _is_hidden(p.relative_to(path))]
        if not found:
            raise TokenizerError(
                "no text files in this folder",
                where=str(path),
                cure=f"Text files end with one of {', '.join(TEXT_SUFFIXES)}.",
            )
        files += found
    return files


def described(tokenizer: Tokenizer, inputs: Sequence[Path]) -> str:
    """What the tokenizer makes of the first megabyte of the input, in a line."""
    from stemma.tokenizers.view.comparison import unknown_id

    unknown = unknown_id(tokenizer)
    n_tokens = n_bytes = n_unknown = 0
    for chunk in islice(read_chunks(text_files(inputs), HEAD_BYTES // 4), 4):
        try:
            ids = tokenizer.encode(chunk)
        except TokenizerError as error:
            return f"it does not spell all of the input: {error.what}"
        n_tokens += len(ids)
        n_bytes += len(chunk.encode())
        n_unknown += 0 if unknown is None else int((ids == unknown).sum())
    lost = f"; {100 * n_unknown / n_tokens:.1f} % of them unknown" if n_unknown else ""
    ratio = f"{n_bytes / max(n_tokens, 1):.3f} bytes per token"
    return f"{ratio} on the first {n_bytes / 1e6:.2f} MB of the input{lost}"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def shown(console: Console, n_bytes: int, unit: str) -> Shown:
    """How training is shown: moving bars on a terminal, lines elsewhere."""
    kind = Bars if console.is_terminal else Lines
    return kind(console, n_bytes, unit)


class Shown:
    """Shows two stages: reading text and learning.

    Args:
        console: where.
        n_bytes: how much text there is.
        unit: what is counted while learning.
    """

    def __init__(self, console: Console, n_bytes: int, unit: str = "tokens") -> None:
        self.console = console
        self.n_bytes = n_bytes
        self.unit = unit

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None: ...

    def reading(self, chunks: Iterable[str]) -> Iterator[str]:
        """The chunks, as they are read."""
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk.encode())
            self._read(min(done, self.n_bytes))

    def learning(self, done: int, wanted: int) -> None:
        """``done`` of ``wanted`` units are done."""
        raise TypeError("an abstract progress cannot be shown")

    def _read(self, done: int) -> None:
        raise TypeError("an abstract progress cannot be shown")


class Bars(Shown):
    """Two moving bars with rate and time left; they vanish at the end."""

    def __enter__(self) -> Shown:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        self._progress: Progress = Progress(*columns, console=self.console, transient=True)
        self._progress.start()
        self._reading = self._progress.add_task("reading text", total=self.n_bytes, note="")
        self._learning: Any = None
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _read(self, done: int) -> None:
        speed = self._progress.tasks[0].speed or 0.0
        self._progress.update(self._reading, completed=done, note=f"{speed / 1e6:.1f} MB/s ")

    def learning(self, done: int, wanted: int) -> None:
        """Move the second bar."""
        if self._learning is None:
            self._progress.update(self._reading, completed=self.n_bytes)
            self._learning = self._progress.add_task("learning", total=wanted, note="")
            self._started = time.monotonic()
        seconds = time.monotonic() - self._started
        rate = f", {done / seconds:,.0f}/s" if done and seconds else ""
        note = f"{done:,} of {wanted:,} {self.unit}{rate} "
        self._progress.update(self._learning, completed=done, total=wanted, note=note)


class Lines(Shown):
    """For a log: a line for each tenth of a stage, but none within five seconds of another."""

    def __enter__(self) -> Shown:
        self._stage = ""
        self._started = self._printed = time.monotonic()
        self._tenth = 0
        return self

    def _read(self, done: int) -> None:
        self._tell("reading text", done, self.n_bytes, f"{done / 1e6:.0f} MB")

    def learning(self, done: int, wanted: int) -> None:
        """Print a line if another tenth is done."""
        self._tell("learning", done, wanted, f"{done:,} of {wanted:,} {self.unit}")

    def _tell(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._tenth = stage, now, 0
        tenth = _PLAIN_LINES * done // max(total, 1)
        if tenth <= self._tenth or now - self._printed < _SECONDS_BETWEEN_LINES:
            return
        self._tenth, self._printed = tenth, now
        left = (now - self._started) / max(done, 1) * (total - done)
        self.console.print(f"{stage}: {note}, {left:.0f} s left", soft_wrap=True)
