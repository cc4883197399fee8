"""Names <-> files: the catalog, model directories in Hugging Face's layout, the Hub.

The names load on first use, so that `stemma pull --help` does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

__all__ = [
    "Manners",
    "ModelCard",
    "export",
    "export_gguf",
    "find_model",
    "load",
    "load_model",
    "load_tokenizer",
    "pull",
    "push",
    "read_config",
    "read_manners",
    "resolve",
    "save_model",
]

if TYPE_CHECKING:
    from stemma.hub.card import ModelCard
    from stemma.hub.catalog import resolve
    from stemma.hub.exporting import export
    from stemma.hub.fetching import pull
    from stemma.hub.gguf_export import export_gguf
    from stemma.hub.manners import Manners, read_manners
    from stemma.hub.model_directory import load_model, save_model
    from stemma.hub.opening import find_model, load, load_tokenizer
    from stemma.hub.pushing import push
    from stemma.hub.reading_config import read_config
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
