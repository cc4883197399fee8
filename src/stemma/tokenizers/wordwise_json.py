"""Writing ``tokenizer.json`` for tokenizers with steps around a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stemma.tokenizers.steps import pre_tokenizers
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.wordwise import WordwiseTokenizer


def wordwise_json(tokenizer: WordwiseTokenizer, model: dict[str, Any]) -> dict[str, Any]:
    """The content of ``tokenizer.json`` for a tokenizer that cuts a text into words first.

    Args:
        tokenizer: what stands around the model.
        model: the model, as the format writes it.
    """
    whole = tokenizer.pre_tokenizer == pre_tokenizers.Sequence(())
    return tokenizer_json(
        tokenizer,
        model,
        pre_tokenizer=None if whole else _step(tokenizer.pre_tokenizer),
        decoder=_step(tokenizer.decoder),
    )


def tokenizer_json(
    tokenizer: Tokenizer,
    model: dict[str, Any],
    *,
    pre_tokenizer: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of ``tokenizer.json``.

    Args:
        tokenizer: its added tokens, normaliser and template are written.
        model: the model, as the format writes it.
        pre_tokenizer: how the text is cut into words.
        decoder: how tokens are joined.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [asdict(t) for t in sorted(tokenizer.added_tokens, key=lambda t: t.id)],
        "normalizer": _step(tokenizer.normalizer),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _step(tokenizer.template),
        "decoder": decoder,
        "model": model,
    }


def _step(step: Any) -> Any:
    return None if step is None else step.to_json()
