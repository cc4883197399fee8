"""Training a tokenizer of any family from files: what ``stemma tokenizer train`` does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stemma import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.text_files import STANDARD_INPUT, read_chunks, size_of, without_gzip

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


class Trained(NamedTuple):
    """A tokenizer, and about the first megabyte of the text that it was trained on."""

    tokenizer: Tokenizer
    head: Sequence[str]


def train_family(
    family: str,
    inputs: Sequence[Path],
    vocab_size: int,
    console: Console,
    **options: Any,
) -> Trained:
    """Train a tokenizer on files and folders, and show how far it is.

    Args:
        family: a name of `FAMILIES`.
        inputs: UTF-8 files (also packed by gzip), folders of them, and ``-`` for standard input.
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
            flag = name.replace("_", "-")
            raise TokenizerError(f"the family {family} has no option --{flag}")
    n_bytes = 0 if STANDARD_INPUT in files else sum(map(size_of, files))
    head: list[str] = []
    with shown(console, n_bytes, found.unit) as progress:
        if "progress" in accepted:
            given["progress"] = progress.learning
        chunks = _keeping(head, read_chunks(files))
        return Trained(cls.train(progress.reading(chunks), vocab_size, **given), head)


def _keeping(head: list[str], chunks: Iterable[str]) -> Iterator[str]:
    """The chunks; the first of them are put into ``head`` as well."""
    room = HEAD_BYTES
    for chunk in chunks:
        if room > 0:
            head.append(chunk[:room])
            room -= len(chunk)
        yield chunk


def text_files(inputs: Sequence[Path]) -> list[Path]:
    """The files meant: of a folder those with the suffix of a text, in the order of their paths.

    Raises:
        TokenizerError: if a path is missing, a folder has no such file, or standard input is named
            twice.
    """
    if [*inputs].count(STANDARD_INPUT) > 1:
        raise TokenizerError("standard input (-) is named twice, and can be read only once")
    files: list[Path] = []
    for path in inputs:
        if path == STANDARD_INPUT:
            files.append(path)
            continue
        if not path.exists():
            raise TokenizerError("there is no such file or folder", where=str(path))
        if not path.is_dir():
            files.append(path)
            continue
        inside = (p for p in sorted(path.rglob("*")) if _is_text(p.relative_to(path)))
        found = [p for p in inside if p.is_file()]
        if not found:
            raise TokenizerError(
                "no text files in this folder",
                where=str(path),
                cure=f"Text files end with one of {', '.join(TEXT_SUFFIXES)}, or .gz behind it.",
            )
        files += found
    return files


def described(tokenizer: Tokenizer, head: Sequence[str]) -> str:
    """What the tokenizer makes of the beginning of the input, in a line."""
    from stemma.tokenizers.view.comparison import unknown_id

    unknown = unknown_id(tokenizer)
    n_tokens = n_bytes = n_unknown = 0
    for chunk in head:
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


def _is_text(path: Path) -> bool:
    """Whether a file of a folder is meant, by its name."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and without_gzip(path).suffix.lower() in TEXT_SUFFIXES


def shown(console: Console, n_bytes: int, unit: str) -> Shown:
    """How training is shown: moving bars on a terminal, lines elsewhere."""
    kind = Bars if console.is_terminal else Lines
    return kind(console, n_bytes, unit)


class Shown:
    """Shows two stages: reading text and learning.

    Args:
        console: where.
        n_bytes: how much text there is; 0 if that is not known.
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
            self._read(min(done, self.n_bytes or done))

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
        total = self.n_bytes or None  # not known beforehand: the bar moves to and fro
        self._reading = self._progress.add_task("reading text", total=total, note="")
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
            self._progress.update(self._reading, total=1, completed=1)
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
        # Where the total is not known, a line each five seconds.
        tenth = _PLAIN_LINES * done // total if total else self._tenth + 1
        if tenth <= self._tenth or now - self._printed < _SECONDS_BETWEEN_LINES:
            return
        self._tenth, self._printed = tenth, now
        left = (now - self._started) / max(done, 1) * (total - done)
        time_left = f", {left:.0f} s left" if total else ""
        self.console.print(f"{stage}: {note}{time_left}", soft_wrap=True)
