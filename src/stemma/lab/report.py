"""A run directory -> ``report.html``: one self-contained page, computed from the record alone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from stemma.lab import figures
from stemma.lab.directory import Record, RunDirectory
from stemma.training import read_metrics

# From certain to astonished; chosen so that dark text stays readable on every step.
_SCALE = ("#e3f6f5", "#d5f0c1", "#fdf0a6", "#fdc87d", "#f98f6f")
_MOST_BITS = 12.0


def write_report(run: RunDirectory, record: Record) -> None:
    """Draw the figures and write the page."""
    from jinja2 import Environment, StrictUndefined

    template = files("stemma.lab").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(_contents(run, record))
    run.report.write_text(page, encoding="utf-8")


def held_out_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """The evaluations that were made while training: step, seconds of training, bits per byte."""
    return [row for row in read_metrics(run.metrics) if "bits_per_byte" in row]


def passing_times(
    held_out: Sequence[Mapping[str, float]], rungs: Sequence[Mapping[str, Any]]
) -> list[float | None]:
    """Seconds of training after which the held-out curve first lies below each rung for good.

    Args:
        held_out: rows with ``seconds`` and ``bits_per_byte``, in order.
        rungs: rows with ``bits_per_byte``.

    Returns:
        One entry a rung: the first evaluation from which on every later one is below it, or None.
    """
    times: list[float | None] = []
    for rung in rungs:
        passed = None
        for row in reversed(held_out):
            if row["bits_per_byte"] >= rung["bits_per_byte"]:
                break
            passed = row["seconds"]
        times.append(passed)
    return times


def ladder_rows(record: Record, held_out: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """All that was measured on the held-out text, worst first, and when the model passed each."""
    rungs = [dict(row) for row in record["ancestors"]]
    for row, seconds in zip(rungs, passing_times(held_out, rungs), strict=True):
        row["passed"] = "" if seconds is None else f"{seconds:.0f} s" if seconds else "at once"
    evaluation = record["evaluation"]
    rungs.append(
        {
            "name": f"Transformer, {_count(record['model']['parameters'])} parameters",
            "paper": "Vaswani 2017 and after",
            "kind": "transformer",
            "bits_per_byte": evaluation["bits_per_byte"],
            "passed": "",
        }
    )
    return sorted(rungs, key=lambda row: -float(row["bits_per_byte"]))


def learning_note(record: Record, held_out: Sequence[Mapping[str, float]]) -> str:
    """One paragraph: from where to where, and when the strongest ancestor was passed."""
    first, last = held_out[0], held_out[-1]
    best = min(held_out, key=lambda row: row["bits_per_byte"])
    note = (
        f"From {first['bits_per_byte']:.2f} to {last['bits_per_byte']:.3f} bits per byte in "
        f"{int(last['step'])} steps "
        f"(best: {best['bits_per_byte']:.3f} at step {int(best['step'])})."
    )
    passed = [row for row in ladder_rows(record, held_out) if row["passed"].endswith(" s")]
    return (
        f"{note} It passed {passed[-1]['name']} after {passed[-1]['passed']}." if passed else note
    )


def coloured(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Tokens as HTML: a background for the surprise in bits, a title with number and bits."""
    parts = []
    for token in tokens:
        text = html.escape(token["text"])
        bits = token.get("bits")
        if bits is None:
            parts.append(f'<i class="given">{text}</i>')
            continue
        title = f"id {token['id']}, {bits:.1f} bits"
        parts.append(f'<i style="background:{surprise_colour(bits)}" title="{title}">{text}</i>')
    return "".join(parts)


def surprise_colour(bits: float) -> str:
    """The colour of the scale at ``bits``, as ``#rrggbb``."""
    place = min(max(bits / _MOST_BITS, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(place), len(_SCALE) - 2)
    mixed = (
        round(
            (1 - place + low) * int(_SCALE[low][i : i + 2], 16)
            + (place - low) * int(_SCALE[low + 1][i : i + 2], 16)
        )
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _contents(run: RunDirectory, record: Record) -> dict[str, Any]:
    training = [row for row in read_metrics(run.metrics) if "loss" in row]
    held_out = held_out_rows(run)
    text, tokenizer, trained = record["text"], record["tokenizer"], record["training"]
    ladder = ladder_rows(record, held_out)
    bytes_per_token = tokenizer["bytes_per_token"]
    shown = [row for row in record["ancestors"] if row["bits_per_byte"] < _LOSS_CURVE_TOP]
    curve = figures.loss_curve(
        training, held_out, shown, bits_per_nat_per_token=1.4426950408889634 / bytes_per_token
    )
    drawn = {"loss": figures.save(curve, run.figures, "loss"), "ladder": "", "positions": ""}
    if record["ancestors"]:
        drawn["ladder"] = figures.save(figures.ladder(ladder), run.figures, "ladder")
    for name in ("attention", "positions"):
        saved = run.figures / f"{name}.svg"
        if saved.exists():
            svg = saved.read_text(encoding="utf-8")
            drawn[name] = svg[svg.index("<svg") :]
    return {
        "title": record["title"],
        "summary": _summary(record, ladder),
        "tiles": _tiles(record, ladder),
        "learning": learning_note(record, held_out),
        "figures": drawn,
        "held_out_note": text["held_out_note"],
        "bytes_per_token": f"{bytes_per_token:.2f}",
        "ladder": ladder,
        "ladder_note": _ladder_note(record, held_out),
        "scale_colours": _SCALE,
        "samples": [
            {"name": sample["name"], "html": coloured(sample["tokens"])}
            for sample in record["samples"]
        ],
        "surprise_note": record["passage"]["note"],
        "passage": coloured(record["passage"]["tokens"]),
        "looked_at": coloured(record["looked_at"]),
        "tokenizer_note": tokenizer["note"],
        "cut": coloured(tokenizer["example"]),
        "parts": record["model"]["parts"],
        "stages": list(record["seconds"].items()),
        "environment": {**record["environment"], "precision": trained["precision"]},
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
    }


_LOSS_CURVE_TOP = 5.0


def _summary(record: Record, ladder: Sequence[Mapping[str, Any]]) -> str:
    text, trained = record["text"], record["training"]
    parameters = _count(record["model"]["parameters"])
    sentence = (
        f"A Transformer of {parameters} parameters, trained on {text['train_bytes'] / 1e6:.2f} MB "
        f"of {text['called']} in {trained['seconds']:.0f} seconds, needs "
        f"{record['evaluation']['bits_per_byte']:.3f} bits per byte of text it has never seen."
    )
    ancestors = [row for row in ladder if row["kind"] != "transformer"]
    if ancestors:
        best = min(ancestors, key=lambda row: float(row["bits_per_byte"]))
        sentence += (
            f" The best of its ancestors, {best['name']}, needs {best['bits_per_byte']:.3f}."
        )
    return sentence


def _tiles(record: Record, ladder: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    trained, evaluation = record["training"], record["evaluation"]
    tiles = [
        ("bits per byte, held out", f"{evaluation['bits_per_byte']:.3f}", True),
        ("parameters", _count(record["model"]["parameters"]), False),
        ("seconds of training", f"{trained['seconds']:.0f}", False),
        ("tokens per second", f"{trained['tokens_per_second']:,.0f}", False),
        ("tokens trained on", _count(trained["tokens"]), False),
    ]
    if trained["peak_memory_bytes"]:
        tiles.append(("peak memory", f"{trained['peak_memory_bytes'] / 2**30:.2f} GiB", False))
    ancestors = [float(row["bits_per_byte"]) for row in ladder if row["kind"] != "transformer"]
    if ancestors:
        tiles.insert(1, ("best ancestor, same text", f"{min(ancestors):.3f}", False))
    return [{"label": label, "value": value, "best": best} for label, value, best in tiles]


def _ladder_note(record: Record, held_out: Sequence[Mapping[str, float]]) -> str:
    evaluation = record["evaluation"]
    best = min(held_out, key=lambda row: row["bits_per_byte"])
    return (
        f"The Transformer reads windows of {evaluation['context_length']} tokens that advance by "
        f"{evaluation['stride']}; every byte of the held-out text is paid for, by every model. "
        f"While training, the windows advance by their whole length, which costs a little: "
        f"the last value there is {held_out[-1]['bits_per_byte']:.3f}, "
        f"the best {best['bits_per_byte']:.3f} (step {int(best['step'])}). "
        "'Passed after' is read off that stricter curve; 'at once' is what the tokenizer alone is "
        "worth, before any training. A uniform guess takes a little over eight bits, because the "
        "end of each text is paid for too."
    )


def _count(number: float) -> str:
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if number >= size:
            return f"{number / size:.2f}".rstrip("0").rstrip(".") + unit
    return f"{number:.0f}"
