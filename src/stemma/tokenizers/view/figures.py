"""Figures of a comparison. matplotlib loads when the first is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.view.languages import MUCH_UNKNOWN, ScriptCost

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _FAINT = "#1f2933", "#9aa5b1"
_COLOURS = ("#0b7285", "#c2410c", "#7048a8", "#2b8a3e", "#b08900", "#a61e4d", "#364fc7", "#5c5f66")
_STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "stemma",
    "figure.dpi": 100,
}


def tokens_per_sentence(costs: Sequence[ScriptCost]) -> Figure:
    """Tokens of a sentence by script, a dot for each tokenizer; a line spans a script's languages.

    Args:
        costs: see `script_costs`; scripts stand from top to bottom as they come.
    """
    import matplotlib
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    scripts = list(dict.fromkeys(cost.script for cost in costs))
    names = list(dict.fromkeys(cost.tokenizer for cost in costs))
    with matplotlib.rc_context(_STYLE):
        figure = MatplotlibFigure(figsize=(7.6, 0.3 * len(scripts) + 0.16 * len(names) + 1.1))
        axes = figure.subplots()
        for i, name in enumerate(names):
            rows = {cost.script: cost for cost in costs if cost.tokenizer == name}
            shift = 0.5 * ((i + 0.5) / len(names) - 0.5)
            places = [scripts.index(script) + shift for script in rows]
            colour = _COLOURS[i % len(_COLOURS)]
            values = [cost.tokens_per_sentence for cost in rows.values()]
            cheapest = [cost.cheapest for cost in rows.values()]
            dearest = [cost.dearest for cost in rows.values()]
            axes.hlines(places, cheapest, dearest, color=colour, linewidth=1, alpha=0.45)
            axes.plot(values, places, "o", color=colour, markersize=4.5, label=name)
            lost = [i for i, cost in enumerate(rows.values()) if cost.unknown > MUCH_UNKNOWN]
            hollow: Any = {"markerfacecolor": "white", "markeredgecolor": colour, "markersize": 4.5}
            axes.plot([values[i] for i in lost], [places[i] for i in lost], "o", **hollow)
            if "English" in rows:
                english = rows["English"].tokens_per_sentence
                axes.axvline(english, color=colour, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.6)
        axes.set_yticks(range(len(scripts)), [_label(script, costs) for script in scripts])
        axes.set_ylim(len(scripts) - 0.4, -0.6)
        axes.set_xscale("log")
        ticks = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        any_lost = any(cost.unknown > MUCH_UNKNOWN for cost in costs)
        note = "; hollow: over a tenth are the unknown token" if any_lost else ""
        axes.set_xlabel(f"tokens of a sentence, logarithmic (dashed: English{note})")
        axes.legend(
            frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(names), 5)
        )
    return figure


def _label(script: str, costs: Sequence[ScriptCost]) -> str:
    codes = next(cost.codes for cost in costs if cost.script == script)
    return script if script == "English" else f"{script} ({len(codes)})"


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name ends with.

    Raises:
        TokenizerError: if there is no such format, or the file cannot be written.
    """
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with matplotlib.rc_context(_STYLE):
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=160, bbox_inches="tight", metadata=metadata)
    except (ValueError, OSError) as error:
        raise TokenizerError(
            f"cannot be drawn: {error}", where=str(path), cure="Name it .png, .svg or .pdf."
        ) from None


def svg(figure: Figure) -> str:
    """A figure for a page."""
    import matplotlib

    buffer = StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    # What matplotlib says about itself there holds addresses, and a page is to need none.
    return re.sub("<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
