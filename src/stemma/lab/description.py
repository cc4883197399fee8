"""A run's text and tokenizer in words and numbers, for its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stemma.lab.directory import RunDirectory
from stemma.lab.portrait import spell
from stemma.lab.recipe import Recipe
from stemma.lab.text import Text, open_documents

_TOKENS_SHOWN = 24


def describe_text(text: Text, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Where it came from, how it was divided, and a few lines of it."""
    train, held_out = text.shards
    parts = train.n_documents + held_out.n_documents
    which = f"{held_out.n_documents} of {parts} documents" if parts > 2 else "its last part"
    note = (
        f"{recipe.data.source}: {train.n_bytes + held_out.n_bytes:,} bytes, of which "
        f"{held_out.n_bytes:,} ({which}) are held out."
    )
    return {
        "source": recipe.data.source,
        "called": Path(recipe.data.source).name if recipe.data.source != "-" else "standard input",
        "note": note,
        "held_out_note": f"{held_out.n_bytes:,} bytes, {which}.",
        "train_bytes": train.n_bytes,
        "held_out_bytes": held_out.n_bytes,
        "excerpt": _excerpt(next(iter(open_documents(recipe, run))).text),
    }


def describe_tokenizer(text: Text, recipe: Recipe) -> dict[str, Any]:
    """Its size, its compression, and how it cuts a piece of held-out text."""
    train, held_out = text.shards
    tokenizer = text.tokenizer
    bytes_per_token = train.n_bytes / len(train)
    start, stop = (int(offset) for offset in held_out.document_offsets[:2])
    middle = (start + stop) // 2
    ids = held_out[middle : min(middle + _TOKENS_SHOWN, stop)].tolist()
    note = (
        f"{recipe.tokenizer.kind}, {tokenizer.vocab_size:,} tokens. A token is "
        f"{bytes_per_token:.2f} bytes of this text: {len(train):,} tokens to train on, "
        f"{len(held_out):,} held out, which are cut like this:"
    )
    return {
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": bytes_per_token,
        "note": note,
        "example": [{"id": i, "text": spell(tokenizer, i), "bits": 0} for i in ids],
    }


def _excerpt(text: str, n_lines: int = 6) -> str:
    """Some lines from the middle of a text, from the beginning of a paragraph on."""
    middle = text.find("\n\n", len(text) // 3)
    start = middle + 2 if middle >= 0 else 0
    return "\n".join(line[:100] for line in text[start:].splitlines()[:n_lines])
