"""The first stages of a run: its text, its tokenizer, its shards."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemma.data import (
    Document,
    Prepared,
    TokenArray,
    TokenSource,
    open_prepared,
    read_documents,
    shipped_corpora,
    shipped_corpus,
    split_documents,
)
from stemma.data.prepare import prepare
from stemma.errors import DataError
from stemma.hub import resolve
from stemma.hub.catalog import catalog
from stemma.lab.directory import RunDirectory
from stemma.lab.recipe import Recipe
from stemma.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Text:
    """A run's text, ready to train on and to measure with."""

    tokenizer: Tokenizer
    shards: Prepared


def open_documents(recipe: Recipe, run: RunDirectory) -> Iterator[Document]:
    """The documents of the recipe's source: a shipped or catalog name, a path, or ``-``.

    Standard input can be read only once, so it is kept in the run directory first.

    Raises:
        DataError: if the source is missing or cannot be read as text.
    """
    source = recipe.data.source
    if source == "-":
        if not run.stdin_text.exists():
            with run.stdin_text.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if run.stdin_text.stat().st_size == 0:
            raise DataError("is empty", where="standard input", cure="Pipe a text into it.")
        return read_documents(run.stdin_text)
    return read_documents(find_source(source), text_field=recipe.data.text_field)


def find_source(source: str) -> Path:
    """The path of a shipped or catalog name, or of a path.

    Raises:
        DataError: if there is nothing.
    """
    if source in shipped_corpora():
        return shipped_corpus(source)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source.partition("/")[0] in catalog():
        return resolve(source)
    read_documents(path)
    return path


def train_tokenizer(recipe: Recipe, run: RunDirectory) -> Tokenizer:
    """The run's tokenizer, trained on the training side only, and saved; read if it exists."""
    if run.tokenizer.exists():
        return load_tokenizer(run.tokenizer)
    parts = split_documents(open_documents(recipe, run), recipe.data.held_out, recipe.seed)
    texts = (part.document.text for part in parts if not part.held_out)
    tokenizer = recipe.tokenizer.build(texts)
    tokenizer.save(run.tokenizer)
    return tokenizer


def prepare_text(recipe: Recipe, run: RunDirectory, tokenizer: Tokenizer) -> Text:
    """Token shards of both sides, checked against their checksums when they exist already."""
    if not run.data.exists():
        documents = open_documents(recipe, run)
        prepare(
            documents,
            tokenizer,
            run.data,
            held_out_fraction=recipe.data.held_out,
            seed=recipe.seed,
        )
    shards = open_prepared(run.data)
    try:
        for side in shards:
            side.verify()
            side.check_tokenizer(tokenizer.fingerprint)
    except DataError as error:
        cure = f"Remove {run.data}, then `stemma resume {run.path}` makes it again from the text."
        raise DataError(error.what, where=error.where, cure=cure) from None
    return Text(tokenizer, shards)


def as_bytes(tokens: TokenSource, tokenizer: Tokenizer) -> TokenArray:
    """The same documents, one token a byte, as `ByteTokenizer` would encode them.

    Decoding the shards instead of reading the text again guarantees that every model of a run is
    measured on the very same bytes.
    """
    end_of_text = ByteTokenizer().end_of_text
    spellings = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    offsets = tokens.document_offsets
    pieces: list[NDArray[np.uint16]] = []
    for start, stop in itertools.pairwise(offsets):
        ids = tokens[int(start) : int(stop)].tolist()
        ends = bool(ids) and ids[-1] == tokenizer.end_of_text
        data = b"".join(map(spellings.__getitem__, ids[:-1] if ends else ids))
        closing = [end_of_text] if ends and end_of_text is not None else []
        document = np.frombuffer(data, np.uint8).astype(np.uint16)
        pieces.append(np.append(document, closing).astype(np.uint16))
    array = TokenArray(
        np.concatenate(pieces), np.cumsum([0, *map(len, pieces)]), tokens.byte_offsets
    )
    if array.n_bytes > len(array):
        raise DataError("the shards hold fewer bytes than their manifest says", where="shards")
    return array
