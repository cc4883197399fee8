"""A comparison of tokenizers as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.view.comparison import Measure
from stemma.tokenizers.view.cuts import Cut
from stemma.tokenizers.view.glyphs import shortened, visible
from stemma.tokenizers.view.languages import MUCH_UNKNOWN, ScriptCost
from stemma.tokenizers.view.page import coloured, render
from stemma.tokenizers.view.samples import GROUPS, Sample
from stemma.tokenizers.view.tables import share


def comparison_page(
    tokenizers: Mapping[str, Tokenizer],
    samples: Sequence[Sample],
    *,
    measures: Sequence[Measure] = (),
    text_name: str = "",
    costs: Sequence[ScriptCost] = (),
) -> str:
    """The page.

    Args:
        tokenizers: name -> tokenizer.
        samples: see `cut_samples`.
        measures: see `compare`; may be empty.
        text_name: what the text was that was measured on.
        costs: see `script_costs`; may be empty.
    """
    names = list(tokenizers)
    sizes = ", ".join(f"{name} ({t.vocab_size:,} ids)" for name, t in tokenizers.items())
    n_languages = len({code for cost in costs for code in cost.codes})
    return render(
        "comparison.html.jinja",
        {
            "title": f"{len(names)} tokenizers side by side" if len(names) > 1 else names[0],
            "lead": sizes,
            "text_note": f"What each makes of {text_name}. Fewer tokens (more bytes in each) make "
            "a model faster and its window longer; a vocabulary of which little is used costs "
            "memory for nothing.",
            "measures": _measure_rows(measures),
            "changes": _changes(measures),
            "figure": _figure(costs),
            "languages_note": "The Universal Declaration of Human Rights, the same text in "
            f"{n_languages} languages: how many tokens stand for what is one sentence in English. "
            "A dot is the median of the languages of a script, a line spans them all.",
            "names": names,
            "scripts": _script_rows(costs, names),
            "groups": _groups(samples, names),
        },
    )


def _measure_rows(measures: Sequence[Measure]) -> list[dict[str, Any]]:
    best = max((row.bytes_per_token for row in measures), default=0.0)
    return [
        {
            "name": row.tokenizer,
            "best": len(measures) > 1 and row.bytes_per_token == best,
            "cells": [
                f"{row.vocab_size:,}",
                f"{row.tokens:,}",
                f"{row.bytes_per_token:.3f}",
                f"{row.tokens_per_word:.3f}",
                *map(share, (row.used, row.single_characters, row.bytes, row.unknown)),
                share(row.changed_lines),
            ],
        }
        for row in measures
    ]


def _changes(measures: Sequence[Measure]) -> list[dict[str, str]]:
    return [
        {
            "name": row.tokenizer,
            "was": shortened(visible(row.changed_example[0]), 60),
            "is": shortened(visible(row.changed_example[1]), 60),
        }
        for row in measures
        if row.changed_example
    ]


def _figure(costs: Sequence[ScriptCost]) -> Any:
    if not costs:
        return None
    from markupsafe import Markup

    from stemma.tokenizers.view import figures

    return Markup(figures.svg(figures.tokens_per_sentence(costs)))


def _script_rows(costs: Sequence[ScriptCost], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for script, group in groupby(costs, key=lambda cost: cost.script):
        found = {cost.tokenizer: cost for cost in group}
        cells = [_script_cell(found[name]) for name in names]
        rows.append(
            {"script": script, "languages": len(found[names[0]].codes), "cells": cells},
        )
    return rows


def _script_cell(cost: ScriptCost) -> dict[str, str]:
    mark = "?" if cost.unknown > MUCH_UNKNOWN else ""
    return {"tokens": f"{cost.tokens_per_sentence:.0f}{mark}", "relative": f"{cost.relative:.2f}x"}


def _groups(samples: Sequence[Sample], names: Sequence[str]) -> list[dict[str, Any]]:
    reasons = {group.name: group.why for group in GROUPS}
    return [
        {
            "name": name[:1].upper() + name[1:],
            "why": reasons[name],
            "samples": [
                {"text": visible(sample.text), "cuts": _cuts(sample.cuts, names)}
                for sample in group
            ],
        }
        for name, group in groupby(samples, key=lambda sample: sample.group)
    ]


def _cuts(cuts: Sequence[Cut | None], names: Sequence[str]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    counts = [len(cut.tokens) for cut in cuts if cut is not None]
    differ = len(set(counts)) > 1
    return [
        {
            "name": name,
            "count": "-" if cut is None else str(len(cut.tokens)),
            "least": cut is not None and differ and len(cut.tokens) == min(counts),
            "tokens": "cannot spell it" if cut is None else Markup(coloured(cut.tokens)),
        }
        for name, cut in zip(names, cuts, strict=True)
    ]
