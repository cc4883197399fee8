"""Ids -> batches: sources, split, shards, windows, and an order that is a pure function.

The public names load on first use, so that a command that needs no torch does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

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
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
