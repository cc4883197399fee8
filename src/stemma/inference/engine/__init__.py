"""Decoding on a CPU as fast as its memory gives the weights.

`Engine` stands before a `Transformer` and is asked the same questions; `obstacle` says why a model
cannot be served that way, and goes on through torch. The names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Engine": "stemma.inference.engine.engine",
    "engine_for": "stemma.inference.engine.choice",
    "obstacle": "stemma.inference.engine.fitness",
}

__all__ = ["Engine", "engine_for", "obstacle"]

if TYPE_CHECKING:
    from stemma.inference.engine.choice import engine_for
    from stemma.inference.engine.engine import Engine
    from stemma.inference.engine.fitness import obstacle


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
