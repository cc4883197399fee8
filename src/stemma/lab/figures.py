"""Figures of a run, drawn from its record alone. matplotlib loads when the first is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _MODEL, _ANCESTOR, _TRAIN = "#1f2933", "#9aa5b1", "#0b7285", "#c2410c", "#94d2dd"
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


def loss_curve(
    training: Sequence[Mapping[str, float]],
    held_out: Sequence[Mapping[str, float]],
    ancestors: Sequence[Mapping[str, Any]],
    *,
    bits_per_nat_per_token: float,
) -> Figure:
    """Training loss and held-out bits per byte against training time, with the ancestors as lines.

    Args:
        training: rows with ``seconds`` and ``loss`` (nats per token).
        held_out: rows with ``seconds`` and ``bits_per_byte``.
        ancestors: rows with ``name`` and ``bits_per_byte``.
        bits_per_nat_per_token: turns a training loss into bits per byte of the training text.
    """
    figure, axes = _figure(7.6, 4.0)
    seconds = np.array([row["seconds"] for row in training])
    bits = np.array([row["loss"] for row in training]) * bits_per_nat_per_token
    axes.plot(seconds, bits, color=_TRAIN, linewidth=1, label="training batch")
    axes.plot(
        [row["seconds"] for row in held_out],
        [row["bits_per_byte"] for row in held_out],
        color=_MODEL,
        marker="o",
        markersize=4,
        linewidth=2,
        label="held-out text",
    )
    end = max([*seconds, 1.0])
    bottom, top = _limits([row["bits_per_byte"] for row in held_out], bits, ancestors)
    axes.set_ylim(bottom, top)
    shown = [row for row in ancestors if bottom < row["bits_per_byte"] < top]
    for row, height in zip(shown, _label_heights(shown, bottom, top), strict=True):
        axes.axhline(row["bits_per_byte"], color=_ANCESTOR, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(end * 1.01, height, row["name"], color=_ANCESTOR, va="center", fontsize=8)
    axes.set_xlim(0, end)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("bits per byte")
    axes.legend(frameon=False, loc="upper right")
    return figure


def _limits(
    held_out: Sequence[float],
    training: np.ndarray[Any, Any],
    ancestors: Sequence[Mapping[str, Any]],
) -> tuple[float, float]:
    """Room for the held-out curve, the end of the training curve and the best ancestor."""
    lowest = [*held_out, *training[-1:], *(row["bits_per_byte"] for row in ancestors)]
    bottom = min(lowest, default=1.0) - 0.15
    return bottom, max(min(max(held_out, default=8.0) + 0.1, 5.2), bottom + 0.8)


def _label_heights(rows: Sequence[Mapping[str, Any]], bottom: float, top: float) -> list[float]:
    """Heights for labels beside lines, moved apart until none touches the next."""
    gap = (top - bottom) * 0.05
    heights = [float(row["bits_per_byte"]) for row in rows]
    previous = float("-inf")
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        heights[i] = max(heights[i], previous + gap)
        previous = heights[i]
    return heights


def ladder(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Bits per byte of every model that was measured, worst first; ``kind`` picks the colour."""
    figure, axes = _figure(7.6, 0.42 * len(rows) + 0.7)
    values = [row["bits_per_byte"] for row in rows]
    colours = [_MODEL if row["kind"] == "transformer" else _ANCESTOR for row in rows]
    places = range(len(rows))[::-1]
    axes.barh(list(places), values, color=colours, height=0.62)
    axes.set_yticks(list(places), [row["name"] for row in rows])
    for place, value in zip(places, values, strict=True):
        axes.text(value + 0.06, place, f"{value:.3f}", va="center", fontsize=9)
    axes.set_xlim(0, max(values) * 1.1)
    axes.set_xlabel("bits per byte of held-out text (less is better)")
    axes.tick_params(axis="y", length=0)
    return figure


def attention(weights: np.ndarray[Any, Any]) -> Figure:
    """Attention patterns as small multiples, one row a layer, one column a head.

    Args:
        weights: ``[n_layers, n_heads, query, key]``, rows summing to one.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    n_layers, n_heads = weights.shape[:2]
    figure = MatplotlibFigure(figsize=(1.75 * n_heads + 0.8, 1.75 * n_layers + 0.8))
    grid = figure.subplots(n_layers, n_heads, squeeze=False)
    for layer in range(n_layers):
        for head in range(n_heads):
            axes = grid[layer][head]
            axes.imshow(weights[layer, head] ** 0.5, cmap="BuGn", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color("#cbd2d9")
            if layer == 0:
                axes.set_title(f"head {head}", fontsize=8)
            if head == 0:
                axes.set_ylabel(f"layer {layer}", fontsize=8)
    figure.subplots_adjust(wspace=0.08, hspace=0.08, left=0.06, right=0.99, top=0.95, bottom=0.02)
    return figure


def positions(similarity: np.ndarray[Any, Any]) -> Figure:
    """Cosine similarity of learned position embeddings, ``[position, position]``."""
    figure, axes = _figure(4.4, 4.0)
    image = axes.imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xlabel("position")
    axes.set_ylabel("position")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write ``name``.png and ``name``.svg; return the SVG for inlining in a page."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight")
        buffer = StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = buffer.getvalue()
    (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return svg[svg.index("<svg") :]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure as MatplotlibFigure

    with matplotlib.rc_context(_STYLE):
        figure = MatplotlibFigure(figsize=(width, height))
        axes = figure.subplots()
    return figure, axes
