"""Text -> training and held-out shards, in one pass over the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from stemma.data.shard_writer import SHARD_TOKENS, ShardWriter, staged
from stemma.data.shards import TokenShards
from stemma.data.sources import Document
from stemma.data.split import MINIMUM_BYTES, split_documents
from stemma.data.tokens import Encoder

TRAIN = "train"
HELD_OUT = "heldout"


class Prepared(NamedTuple):
    """The two sides of a prepared corpus."""

    train: TokenShards
    held_out: TokenShards


def prepare(
    documents: Iterable[Document],
    tokenizer: Encoder,
    directory: str | Path,
    *,
    held_out_fraction: float = 0.1,
    seed: int = 0,
    minimum_bytes: int = MINIMUM_BYTES,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Split documents (`split_documents`) and write ``train/`` and ``heldout/`` shards.

    Streams: the corpus may be larger than memory. The directory appears whole or not at all.

    Args:
        documents: the corpus, read once.
        tokenizer: gives the ids.
        directory: must not exist.
        held_out_fraction: share of the bytes to hold out.
        seed: chooses the held-out documents.
        minimum_bytes: what each side must hold.
        shard_tokens: how many ids a file holds.
        progress: told the documents and bytes done so far, after each document.

    Raises:
        DataError: if the directory exists, the text is too small, or the disk is full.
    """
    directory = Path(directory)
    assigned = split_documents(documents, held_out_fraction, seed, minimum_bytes=minimum_bytes)
    with (
        staged(directory) as folder,
        ShardWriter(folder / TRAIN, tokenizer, shard_tokens=shard_tokens) as train,
        ShardWriter(folder / HELD_OUT, tokenizer, shard_tokens=shard_tokens) as held_out,
    ):
        for done, part in enumerate(assigned, start=1):
            (held_out if part.held_out else train).add(part.document)
            if progress is not None:
                progress(done, train.n_bytes + held_out.n_bytes)
    return open_prepared(directory)


def open_prepared(directory: str | Path) -> Prepared:
    """Open both sides of a directory that `prepare` made."""
    return Prepared(TokenShards(Path(directory) / TRAIN), TokenShards(Path(directory) / HELD_OUT))
