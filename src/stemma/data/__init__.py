"""Ids -> batches: sources, split, shards, windows, and an order that is a pure function.

The public names load on first use, so that a command that needs no torch does not wait for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "IGNORE_INDEX": "stemma.data.windows",
    "Assigned": "stemma.data.split",
    "Batch": "stemma.data.batches",
    "Batches": "stemma.data.batches",
    "Document": "stemma.data.sources",
    "PackedDocuments": "stemma.data.windows",
    "PairBatch": "stemma.data.pairs",
    "PairBatches": "stemma.data.pairs",
    "Permutation": "stemma.data.order",
    "Prepared": "stemma.data.prepare",
    "ShardWriter": "stemma.data.shard_writer",
    "SlidingWindows": "stemma.data.windows",
    "TokenArray": "stemma.data.tokens",
    "TokenShards": "stemma.data.shards",
    "TokenSource": "stemma.data.tokens",
    "encode_file": "stemma.data.streaming",
    "open_prepared": "stemma.data.prepare",
    "read_documents": "stemma.data.sources",
    "shipped_corpora": "stemma.data.corpus",
    "shipped_corpus": "stemma.data.corpus",
    "split_documents": "stemma.data.split",
    "train_and_held_out": "stemma.data.split",
    "write_shards": "stemma.data.shards",
}

__all__ = [
    "IGNORE_INDEX",
    "Assigned",
    "Batch",
    "Batches",
    "Document",
    "PackedDocuments",
    "PairBatch",
    "PairBatches",
    "Permutation",
    "Prepared",
    "ShardWriter",
    "SlidingWindows",
    "TokenArray",
    "TokenShards",
    "TokenSource",
    "encode_file",
    "open_prepared",
    "read_documents",
    "shipped_corpora",
    "shipped_corpus",
    "split_documents",
    "train_and_held_out",
    "write_shards",
]

if TYPE_CHECKING:
    from stemma.data.batches import Batch, Batches
    from stemma.data.corpus import shipped_corpora, shipped_corpus
    from stemma.data.order import Permutation
    from stemma.data.pairs import PairBatch, PairBatches
    from stemma.data.prepare import Prepared, open_prepared
    from stemma.data.shard_writer import ShardWriter
    from stemma.data.shards import TokenShards, write_shards
    from stemma.data.sources import Document, read_documents
    from stemma.data.split import Assigned, split_documents, train_and_held_out
    from stemma.data.streaming import encode_file
    from stemma.data.tokens import TokenArray, TokenSource
    from stemma.data.windows import IGNORE_INDEX, PackedDocuments, SlidingWindows


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stemma.data' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
