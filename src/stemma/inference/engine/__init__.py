"""Decoding on a CPU as fast as its memory gives the weights.

`Engine` stands before a `Transformer` and is asked the same questions; `obstacle` says why a model
cannot be served that way, and goes on through torch. The names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

__all__ = ["Engine", "engine_for", "obstacle"]

if TYPE_CHECKING:
    from stemma.inference.engine.choice import engine_for
    from stemma.inference.engine.engine import Engine
    from stemma.inference.engine.fitness import obstacle
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
