"""The ancestors, measured on a run's held-out text: from knowing nothing to Kneser and Ney."""

from __future__ import annotations

from typing import Any

from stemma.data import TokenSource
from stemma.evaluation import Evaluation, evaluate_orders
from stemma.lab.text import Text, as_bytes
from stemma.models.ngram import NGram
from stemma.tokenizers import ByteTokenizer

_HIGHEST_TOKEN_ORDER = 5
_NAMES = {0: "uniform", 1: "unigram", 2: "bigram", 3: "trigram"}


def measure_ancestors(text: Text, highest_order: int) -> list[dict[str, Any]]:
    """Bits per byte of n-grams over bytes, orders 0 to ``highest_order``, and the best over tokens.

    All are smoothed by interpolated modified Kneser-Ney, the strongest classical method, and
    trained and measured on the same documents as the Transformer.

    Returns:
        Rows with name, paper, kind, unit ("byte" or "token"), order and bits per byte.
    """
    if highest_order < 1:
        return []
    train, held_out = text.shards
    byte_tokenizer = ByteTokenizer()
    byte_scores = _score(
        as_bytes(train, text.tokenizer),
        as_bytes(held_out, text.tokenizer),
        highest_order,
        byte_tokenizer.vocab_size,
        byte_tokenizer.end_of_text,
    )
    token_scores = _score(
        train,
        held_out,
        min(highest_order, _HIGHEST_TOKEN_ORDER),
        text.tokenizer.vocab_size,
        text.tokenizer.end_of_text,
    )
    rows = [_row(order, "byte", score) for order, score in enumerate(byte_scores)]
    best = min(range(1, len(token_scores)), key=lambda order: token_scores[order].bits_per_byte)
    return [*rows, _row(best, "token", token_scores[best])]


def on_the_ladder(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rungs worth showing: the first steps, then the best over bytes and over tokens."""
    over_bytes = [row for row in rows if row["unit"] == "byte"]
    if not over_bytes:
        return []
    best = min(over_bytes, key=lambda row: float(row["bits_per_byte"]))
    shown = [row for row in over_bytes if row["order"] <= 3 or row is best]
    return [*shown, *(row for row in rows if row["unit"] == "token")]


def _score(
    train: TokenSource,
    held_out: TokenSource,
    order: int,
    vocab_size: int,
    end_of_text: int | None,
) -> list[Evaluation]:
    model = NGram.fit(train[:], order, vocab_size=vocab_size, end_of_text=end_of_text)
    return evaluate_orders(model, held_out, start_token=end_of_text)


def _row(order: int, unit: str, score: Evaluation) -> dict[str, Any]:
    name = _NAMES.get(order, f"{order}-gram")
    if order >= 1:
        name = f"{name} over {unit}s"
    return {
        "name": name,
        "paper": "Shannon 1948" if order <= 1 else "Shannon 1948; Kneser and Ney 1995",
        "kind": "ngram",
        "unit": unit,
        "order": order,
        "bits_per_byte": score.bits_per_byte,
    }
