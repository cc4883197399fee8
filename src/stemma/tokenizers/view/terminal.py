"""A cut text on a terminal, or in plain lines where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stemma.tokenizers.view.cuts import Cut
from stemma.tokenizers.view.glyphs import encodable, glyphs, shortened

_PALETTE = ("#bfe3c9", "#fbe3a4", "#c9defb", "#f6cbd9", "#dccdf7", "#bfe6ea")
_FEW_COLOURS = ("bright_cyan", "bright_yellow", "bright_green")
SPECIAL = "bold white on #334155"
FAINT = "bright_black"
_FIRST_RTL = "\u0590"
_LEFT_TO_RIGHT = "\u200e"


@dataclass(frozen=True)
class Cell:
    """A token and the label beneath it.

    Args:
        text: what is shown of the token.
        label: the label, which may be empty.
        style: how the token is shown.
        ends_line: whether the text has a new line here.
    """

    text: str
    label: str
    style: str
    ends_line: bool = False

    @property
    def width(self) -> int:
        """The columns that the wider of the two takes."""
        return max(cell_len(self.text), len(self.label))


def styles(console: Console) -> Sequence[str]:
    """The colours that tokens take in turns; empty where there are none."""
    if console.color_system is None or console.no_color:
        return ()
    names = _FEW_COLOURS if console.color_system == "standard" else _PALETTE
    return [f"black on {name}" for name in names]


def show_cut(console: Console, cut: Cut, *, with_ids: bool = True) -> None:
    """The tokens in turns of colour with their ids underneath, folded to the console's width."""
    colours = styles(console)
    cells = [
        Cell(
            _cell_text(console, token.spelling),
            str(token.id) if with_ids else "",
            SPECIAL if token.special and colours else colours[i % len(colours)] if colours else "",
            token.spelling.endswith(b"\n"),
        )
        for i, token in enumerate(cut.tokens)
    ]
    bar = " " if colours else encodable("│", console.encoding)
    for row in fold(cells, console.width, cell_len(bar) * (with_ids or not colours)):
        console.print(_upper_line(row, bar, with_ids, bool(colours)), soft_wrap=True)
        if with_ids:
            labels = bar.join(_padded(cell.label, cell.width) for cell in row)
            console.print(Text(labels.rstrip(), FAINT if colours else ""), soft_wrap=True)


def summary(cut: Cut) -> str:
    """How many tokens and bytes."""
    n, n_bytes = len(cut.tokens), cut.n_bytes
    counts = f"{_count(n, 'token')}, {_count(n_bytes, 'byte')}"
    ratio = f", {n_bytes / n:.2f} bytes per token" if n else ""
    return f"{counts}{ratio} ({cut.tokenizer})"


def _cell_text(console: Console, spelling: bytes) -> str:
    shown = fitted(glyphs(spelling, console.encoding), max(console.width - 4, _NARROWEST))
    return _left_to_right(encodable(shown, console.encoding))


_NARROWEST = 4
"""Columns that a token may take however narrow the terminal is."""


def fitted(text: str, width: int) -> str:
    """``text``, shortened until it takes no more than ``width`` columns."""
    room = width
    while cell_len(text) > width and room > 0:
        text = shortened(text, room)
        room -= 1
    return text


def fold(cells: Iterable[Cell], width: int, gap: int) -> Iterator[list[Cell]]:
    """Cells in rows that are no wider than ``width``, and end where the text's lines do."""
    row: list[Cell] = []
    used = 0
    for cell in cells:
        if row and used + gap + cell.width > width:
            yield row
            row, used = [], 0
        used += cell.width + gap * bool(row)
        row.append(cell)
        if cell.ends_line:
            yield row
            row, used = [], 0
    if row:
        yield row


def pieces(
    console: Console,
    spellings: Sequence[bytes],
    *,
    marked: int | None = None,
    width: int | None = None,
) -> Text:
    """Pieces side by side.

    Args:
        console: for its colours and encoding.
        spellings: the pieces.
        marked: the one that stands out.
        width: if given, lines end before a piece that would reach beyond it.
    """
    colours = styles(console)
    bar = "" if colours else "|"
    text = Text()
    used = 0
    for i, spelling in enumerate(spellings):
        shown = _left_to_right(glyphs(spelling, console.encoding))
        size = cell_len(shown) + len(bar) * (used > 0)
        ends_line = width is not None and used > 0 and used + size > width
        if i:
            text.append("\n" if ends_line else bar)
        used = cell_len(shown) if ends_line else used + size
        style = colours[i % len(colours)] if colours else ""
        text.append(shown, f"{style} bold underline" if i == marked else style)
    return text


def _upper_line(row: Sequence[Cell], bar: str, with_ids: bool, coloured: bool) -> Text:
    text = Text()
    for i, cell in enumerate(row):
        if i and (with_ids or not coloured):
            text.append(bar)
        text.append(cell.text, cell.style)
        if with_ids and (i + 1 < len(row) or not coloured):
            text.append(" " * (cell.width - cell_len(cell.text)))
    if not coloured:
        text.rstrip()
    return text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _left_to_right(text: str) -> str:
    """A terminal must not exchange a right-to-left token with its neighbours: ids stand below."""
    return text + _LEFT_TO_RIGHT if any(c >= _FIRST_RTL for c in text) and _has_rtl(text) else text


def _has_rtl(text: str) -> bool:
    import unicodedata

    return any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
