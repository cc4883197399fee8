"""The steps by which words were cut (`replay`), on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stemma.tokenizers.view.glyphs import visible
from stemma.tokenizers.view.replay import Matches, Merges, Paths, Piece, Replay
from stemma.tokenizers.view.terminal import FAINT, pieces


def show_replays(console: Console, replays: Sequence[Replay]) -> None:
    """Each word once, with its steps; in the end those that took none."""
    counts = Counter(one.word for one in replays)
    distinct = {replay.word: replay for replay in replays}.values()
    for one in (replay for replay in distinct if not _is_plain(replay)):
        console.print()
        console.print(_title(console, one, counts[one.word]))
        if isinstance(one, Merges):
            _show_merges(console, one)
        elif isinstance(one, Matches):
            _show_matches(console, one)
        elif isinstance(one, Paths):
            _show_paths(console, one)
        if one.note:
            console.print(Text(f"  {one.note}", FAINT))
    if plain := [one for one in distinct if _is_plain(one)]:
        console.print()
        console.print(Text.assemble("tokens from the start: ", _row_of(console, plain)))


def _is_plain(one: Replay) -> bool:
    """Whether there was nothing to decide: one symbol, one token."""
    return isinstance(one, Merges) and not one.merges and len(one.ids) == 1 and not one.note


def _row_of(console: Console, replays: Sequence[Replay]) -> Text:
    row = Text()
    for one in replays:
        row.append(visible(one.word, console.encoding), "bold").append(f" {one.ids[0]}  ", FAINT)
    return row


def _title(console: Console, one: Replay, count: int) -> Text:
    title = Text(visible(one.word, console.encoding), "bold")
    n = len(one.ids)
    what = f"{n} token{'' if n == 1 else 's'}: " + " ".join(map(str, one.ids[:40]))
    title.append(f"  {what}{' ...' if n > 40 else ''}", "")
    if count > 1:
        title.append(f"  ({count} times)", FAINT)
    return title


def _show_merges(console: Console, one: Merges) -> None:
    if not one.merges:
        return
    scored = one.merges[0].rank is None
    table = _table("score" if scored else "rank", "pair", "makes id", "")
    table.add_row("", "", "", pieces(console, [piece.spelling for piece in one.symbols]))
    for merge in one.merges:
        made = merge.made
        table.add_row(
            f"{made.score:g}" if scored else f"{merge.rank:,}",
            Text.assemble(
                _shown(console, merge.left), (" + ", FAINT), _shown(console, merge.right)
            ),
            "" if made.id is None else f"{made.id}",
            pieces(console, [piece.spelling for piece in merge.row], marked=merge.at),
        )
    console.print(table)


def _show_matches(console: Console, one: Matches) -> None:
    table = _table("longest token", "id", "left over")
    table.columns[0].justify = "left"
    for match in one.matches:
        if match.piece is None:
            table.add_row(Text("none", "bold red"), "", visible(match.rest, console.encoding))
        else:
            table.add_row(
                pieces(console, [match.piece.spelling]),
                str(match.piece.id),
                visible(match.rest, console.encoding),
            )
    console.print(table)


def _show_paths(console: Console, one: Paths) -> None:
    table = _table("score", "", "pieces and their scores")
    for i, path in enumerate(one.paths):
        scores = " ".join(f"{piece.score:.2f}" for piece in path.pieces if piece.score is not None)
        row = pieces(console, [piece.spelling for piece in path.pieces])
        table.add_row(
            f"{path.score:.2f}", "best" if i == 0 else "", row.append(f"  {scores}", FAINT)
        )
    console.print(table)
    console.print(Text(f"  of all ways through {one.n_edges} pieces found in the word", FAINT))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=True, padding=(0, 2, 0, 0), header_style=FAINT)
    for i, name in enumerate(columns):
        numeric = name in ("score", "rank", "makes id", "id")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        table.columns[i].no_wrap = numeric
    return table


def _shown(console: Console, piece: Piece) -> str:
    from stemma.tokenizers.view.glyphs import glyphs

    return glyphs(piece.spelling, console.encoding)
