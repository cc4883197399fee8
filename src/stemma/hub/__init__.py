"""Names <-> files: the catalog, model directories in Hugging Face's layout, the Hub.

The names load on first use, so that `stemma pull --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Manners": "stemma.hub.manners",
    "ModelCard": "stemma.hub.card",
    "export": "stemma.hub.exporting",
    "export_gguf": "stemma.hub.gguf_export",
    "find_model": "stemma.hub.opening",
    "load": "stemma.hub.opening",
    "load_model": "stemma.hub.model_directory",
    "load_tokenizer": "stemma.hub.opening",
    "pull": "stemma.hub.fetching",
    "push": "stemma.hub.pushing",
    "read_config": "stemma.hub.reading_config",
    "read_manners": "stemma.hub.manners",
    "resolve": "stemma.hub.catalog",
    "save_model": "stemma.hub.model_directory",
}

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


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
