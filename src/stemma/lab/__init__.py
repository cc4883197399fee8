"""Recipes -> runs -> evidence: one run and its report, the quickstart."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Recipe": "stemma.lab.recipe",
    "RunResult": "stemma.lab.run",
    "load_recipe": "stemma.lab.recipe",
    "resume": "stemma.lab.run",
    "shipped_recipes": "stemma.lab.shelf",
    "train": "stemma.lab.run",
}

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


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
