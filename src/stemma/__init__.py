"""stemma: a GPT-class language model from nothing, every part of it readable and real.

The public names load on first use, so that ``import stemma`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

__version__ = "0.1.0"

__all__ = ["StemmaError", "__version__", "generate", "load", "load_tokenizer", "train"]

if TYPE_CHECKING:
    from stemma.errors import StemmaError
    from stemma.hub import load, load_tokenizer
    from stemma.inference import generate
    from stemma.lab import train
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
