"""Recipes -> runs -> evidence: one run and its report, the quickstart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

__all__ = [
    "Recipe",
    "RunResult",
    "load_recipe",
    "resume",
    "shipped_recipes",
    "train",
]

if TYPE_CHECKING:
    from stemma.lab.recipe import Recipe, load_recipe
    from stemma.lab.run import RunResult, resume, train
    from stemma.lab.shelf import shipped_recipes
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
