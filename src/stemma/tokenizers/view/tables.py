"""Comparisons and statistics as tables on a terminal, or as plain lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stemma.tokenizers.view.comparison import Measure
from stemma.tokenizers.view.glyphs import encodable, glyphs, shortened, visible
from stemma.tokenizers.view.languages import MUCH_UNKNOWN, ScriptCost
from stemma.tokenizers.view.samples import GROUPS, Sample
from stemma.tokenizers.view.statistics import Listed, Statistics
from stemma.tokenizers.view.terminal import FAINT, Cell, fold, pieces

_BAR = 24
_SCRIPTS_SHOWN = 12
_LISTED = 12


def show_measures(console: Console, measures: Sequence[Measure]) -> None:
    """What each tokenizer makes of a text, a row each."""
    columns = [
        "tokenizer",
        "ids",
        "bytes per\ntoken",
        "tokens\nper word",
        "ids\nused",
        "1 char-\nacter",
        "bytes",
        "un-\nknown",
        "lines\nchanged",
    ]
    best = max(measure.bytes_per_token for measure in measures)
    rows: list[_Row] = []
    for row in measures:
        shares = (row.used, row.single_characters, row.bytes, row.unknown, row.changed_lines)
        cells = [
            row.tokenizer,
            f"{row.vocab_size:>7,}",
            f"{row.bytes_per_token:.3f}",
            f"{row.tokens_per_word:.3f}",
            *map(share, shares),
        ]
        leads = row.bytes_per_token == best and len(measures) > 1
        rows.append(_Row(cells, "bold green" if leads else None))
    _show_table(console, columns, rows)
    for row in measures:
        if row.changed_example:
            was, is_ = (visible(text, console.encoding) for text in row.changed_example)
            note = f"{row.tokenizer}: {shortened(was, 34)} becomes {shortened(is_, 34)}"
            console.print(Text(encodable(f"  {note}", console.encoding), FAINT))


def show_samples(console: Console, samples: Sequence[Sample], names: Sequence[str]) -> None:
    """Each sample as each tokenizer cuts it, with the number of tokens."""
    width = max(map(len, names))
    reasons = {group.name: group.why for group in GROUPS}
    for name, group in groupby(samples, key=lambda sample: sample.group):
        console.print()
        console.print(Text.assemble((name, "bold cyan"), "  ", (reasons[name], FAINT)))
        for sample in group:
            console.print(Text(f" {visible(sample.text, console.encoding)}", "bold"))
            for label, cut in zip(names, sample.cuts, strict=True):
                count = "-" if cut is None else str(len(cut.tokens))
                head = Text(f"   {label:<{width}} {count:>4}  ")
                room = max(console.width - head.cell_len, 20)
                row = (
                    Text("cannot spell it", FAINT)
                    if cut is None
                    else pieces(console, [token.spelling for token in cut.tokens], width=room)
                )
                for i, line in enumerate(row.split("\n", allow_blank=True)):
                    margin = head if i == 0 else Text(" " * head.cell_len)
                    console.print(margin, line, sep="", soft_wrap=True)


def show_scripts(console: Console, costs: Sequence[ScriptCost]) -> None:
    """What a sentence costs in each script: tokens, and how often English's."""
    names = list(dict.fromkeys(cost.tokenizer for cost in costs))
    columns = ["script", "lan-\nguages", *(_folded(name, _COST_COLUMNS - 1) for name in names)]
    with_times = console.width >= _SCRIPT_COLUMNS + _COST_COLUMNS * len(names)
    rows: list[_Row] = []
    for script, group in groupby(costs, key=lambda cost: cost.script):
        found = {cost.tokenizer: cost for cost in group}
        n_languages = len(next(iter(found.values())).codes)
        cells = [_cost(found[name], with_times) for name in names]
        rows.append(_Row([script, str(n_languages), *cells]))
    _show_table(console, columns, rows, n_repeated=2)
    if any(cost.unknown > MUCH_UNKNOWN for cost in costs):
        note = "? over a tenth of the tokens are the unknown token: the text is lost, not cheap"
        console.print(Text(f"  {note}", FAINT))


_SCRIPT_COLUMNS, _COST_COLUMNS = 30, 14


def _cost(cost: ScriptCost, with_times: bool) -> Text:
    """Tokens, and how often English's; a space that no table takes away keeps them in line."""
    mark = "?" if cost.unknown > MUCH_UNKNOWN else "\u00a0"
    times = f"{cost.relative:6.2f}x" if with_times else ""
    return Text.assemble(f"{cost.tokens_per_sentence:.0f}", (times + mark, FAINT))


def show_statistics(console: Console, found: Statistics) -> None:
    """One tokenizer: its sizes, its tokens by kind, length and script, and its oddities."""
    for name, value in _facts(found):
        console.print(Text.assemble((f"{name:<18}", FAINT), encodable(value, console.encoding)))
    console.print()
    console.print(Text("tokens by length in characters (0: part of a character)", "bold"))
    _show_bars(console, ((str(n), count) for n, count in _binned(found.lengths)))
    console.print()
    console.print(Text("tokens by script (Common: digits, marks, spaces)", "bold"))
    _show_bars(console, list(found.scripts.items())[:_SCRIPTS_SHOWN])
    if len(found.scripts) > _SCRIPTS_SHOWN:
        console.print(Text(f"  and {len(found.scripts) - _SCRIPTS_SHOWN} more", FAINT))
    _show_longest(console, found.longest[:_LISTED])
    if found.unreachable:
        console.print()
        _show_tokens(console, found.unreachable)
    if found.measure:
        console.print()
        show_measures(console, [found.measure])


def _facts(found: Statistics) -> Iterable[tuple[str, str]]:
    yield "tokenizer", f"{found.tokenizer} ({found.family})"
    yield "ids", f"{found.vocab_size:,}"
    if found.merges is not None:
        yield "merges", f"{found.merges:,}"
    if found.pattern:
        yield "words", f"the pattern of {found.pattern}"
    if found.normalizer:
        yield "normaliser", found.normalizer
    for name, tokens in (("special tokens", found.special), ("added tokens", found.added)):
        listed = "  ".join(f"{visible(token)} {id_}" for token, id_ in [*tokens.items()][:_LISTED])
        more = f"  and {len(tokens) - _LISTED} more" if len(tokens) > _LISTED else ""
        if tokens:
            yield name, f"{len(tokens)}: {listed}{more}"
    n = sum(found.lengths.values())
    yield "learned tokens", f"{n:,}"
    for name, count in (
        ("  after a space", found.leading_space),
        ("  one character", found.single_characters),
        ("  bytes", found.bytes),
    ):
        yield name, f"{count:,} ({share(count / max(n, 1))})"


def _binned(lengths: dict[int, int]) -> Iterable[tuple[str, int]]:
    """Lengths up to 16 by themselves, the longer ones together."""
    for n in range(17):
        if n in lengths:
            yield str(n), lengths[n]
    if longer := sum(count for n, count in lengths.items() if n > 16):
        yield f"17-{max(lengths)}", longer


def _show_bars(console: Console, rows: Iterable[tuple[str, int]]) -> None:
    rows = list(rows)
    most = max((count for _, count in rows), default=1)
    width = max((len(name) for name, _ in rows), default=1)
    block = encodable("█", console.encoding)
    for name, count in rows:
        bar = block * max(round(_BAR * count / most), 1)
        console.print(Text.assemble(f"  {name:>{width}} ", f"{count:>9,} ", (bar, "cyan")))


def _show_longest(console: Console, tokens: Sequence[Listed]) -> None:
    console.print()
    console.print(Text("longest tokens: id, characters, token", "bold"))
    for token in tokens:
        shown = shortened(glyphs(token.spelling, console.encoding), console.width - 16)
        shown = encodable(shown, console.encoding)
        n = len(token.surface.decode(errors="replace"))
        console.print(Text.assemble((f"  {token.id:>6} {n:>4}  ", FAINT), shown), soft_wrap=True)


def _show_tokens(console: Console, tokens: Sequence[Listed]) -> None:
    """Ids and tokens side by side, none of them broken at the end of a line."""
    console.print(Text(f"{len(tokens):,} tokens that no text was found to give", "bold"))
    shown = [
        encodable(f"{token.id} {shortened(glyphs(token.spelling), 30)}", console.encoding)
        for token in tokens[: 2 * _LISTED]
    ]
    if len(tokens) > 2 * _LISTED:
        shown.append(f"and {len(tokens) - 2 * _LISTED:,} more")
    for row in fold([Cell(text, "", "") for text in shown], console.width - 2, 3):
        console.print(Text("  " + "   ".join(cell.text for cell in row)), soft_wrap=True)


class _Row(NamedTuple):
    cells: Sequence[str | Text]
    style: str | None = None


def _show_table(
    console: Console, columns: Sequence[str], rows: Sequence[_Row], n_repeated: int = 1
) -> None:
    """A table, or where it is too wide several below one another, none of them cut off.

    Args:
        console: where.
        columns: their names; the first has names in it, which may take two lines, the others
            numbers.
        rows: the rows.
        n_repeated: how many columns each of several tables begins with.
    """
    lines = (
        [str(cell).split("\n") for cell in cells] for cells in (columns, *(r.cells for r in rows))
    )
    widths = [
        max(cell_len(line) for cell in column for line in cell)
        for column in zip(*lines, strict=True)
    ]
    widths[0] = min(widths[0], max(console.width // 3, 12))
    first = range(n_repeated)
    groups: list[list[int]] = []
    for i in range(n_repeated, len(columns)):
        taken = [*first, *(groups[-1] if groups else ()), i]
        if not groups or sum(widths[j] + 1 for j in taken) > console.width:
            groups.append([])
        groups[-1].append(i)
    for group in groups:
        shown = [*first, *group]
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style=FAINT)
        for i in shown:
            side: Literal["left", "right"] = "right" if i else "left"
            table.add_column(
                columns[i], justify=side, width=widths[i], overflow="fold", vertical="bottom"
            )
        for row in rows:
            table.add_row(*(row.cells[i] for i in shown), style=row.style)
        if group is not groups[0]:
            console.print()
        console.print(table)


def _folded(name: str, width: int) -> str:
    return "\n".join(name[i : i + width] for i in range(0, len(name), width))


def share(value: float) -> str:
    """A share in percent: what is not nothing is not shown as 0."""
    if 0 < value < 0.0005:
        return "<0.1 %"
    return f"{100 * value:.1f} %"
