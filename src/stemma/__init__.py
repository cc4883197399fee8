"""stemma: a GPT-class language model from nothing, every part of it readable and real.

The public names load on first use, so that ``import stemma`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "StemmaError": "stemma.errors",
    "generate": "stemma.inference",
    "load": "stemma.hub",
    "load_tokenizer": "stemma.hub",
    "train": "stemma.lab",
}

__all__ = ["StemmaError", "__version__", "generate", "load", "load_tokenizer", "train"]

if TYPE_CHECKING:
    from stemma.errors import StemmaError
    from stemma.hub import load, load_tokenizer
    from stemma.inference import generate
    from stemma.lab import train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stemma' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
