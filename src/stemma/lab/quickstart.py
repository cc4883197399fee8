"""The quickstart: the shipped recipe on the shipped text, or on the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from stemma.lab.recipe import load_recipe
from stemma.lab.run import RunResult, train

_OWN_TEXT = ["tokenizer.allow_fewer=true", "data.max_epochs=8", "data.held_out=0.1"]


def quickstart(
    text: str | None = None,
    *,
    prompt: str | None = None,
    directory: str | Path | None = None,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> RunResult:
    """Train a language model from raw text and show everything that happens.

    On a text of the user's own, three things give way: the vocabulary may be smaller than asked
    for, a text too small for the recipe's steps is read eight times at most, and twice as much of
    it is held out.

    Args:
        text: a file, a folder, or ``-`` for standard input; the shipped Shakespeare by default.
        prompt: what the samples continue; by default the recipe's, or nothing on one's own text.
        directory: where the run is kept; ``runs/quickstart``, or ``runs/quickstart-<text>``.
        overrides: ``"table.key=value"`` assignments.
        overwrite: replace a run that is there already.
        quiet: print nothing.

    Raises:
        StemmaError: as `stemma.train`.
    """
    recipe = load_recipe("quickstart")
    settings: list[str] = []
    if text is not None:
        name = f"quickstart-{_plain(text)}"
        recipe = recipe.replace(
            name=name,
            data=recipe.data.replace(source=text),
            samples=recipe.samples.replace(prompt=""),
        )
        settings += _OWN_TEXT
    if prompt is not None:
        recipe = recipe.replace(samples=recipe.samples.replace(prompt=prompt))
    return train(
        recipe, directory, overrides=[*settings, *overrides], overwrite=overwrite, quiet=quiet
    )


def _plain(source: str) -> str:
    """A name for a run from the name of its text: letters, digits, dots and dashes."""
    stem = "stdin" if source == "-" else Path(source).resolve().stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "text"
