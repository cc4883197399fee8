"""Text -> a vector, by the hidden states of a model: what search and clustering compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from stemma.errors import ModelError
from stemma.inference.evaluation_mode import evaluating
from stemma.inference.several_texts import refuse_one_text
from stemma.tokenizers import Tokenizer

if TYPE_CHECKING:
    from stemma.models import Transformer

Pooling = Literal["mean", "first", "last"]
"""The mean of all positions (sentence-transformers), the first (BERT's), the last (decoders')."""


@torch.inference_mode()
def embed_texts(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    pooling: Pooling = "mean",
    normalise: bool = True,
    batch_size: int = 32,
) -> Float[Tensor, "texts d_model"]:
    """One vector per text; with ``normalise``, their products are cosines.

    The tokenizer's template stands around each text (``[CLS] ... [SEP]``), and a text longer than
    the context is cut at its end, the template's last token kept. Reimers & Gurevych 2019,
    arXiv:1908.10084.

    Args:
        model: an encoder, or any `Transformer`.
        tokenizer: its own.
        texts: of any lengths; rows of a batch are padded, and padding is not seen.
        pooling: which hidden states become the vector.
        normalise: divide each vector by its length.
        batch_size: texts at a time, of similar lengths.

    Raises:
        ModelError: if a text gives no ids, or ``texts`` is one string.
    """
    refuse_one_text(texts, "texts")
    if pooling not in _POOLING:
        raise ModelError(f"pooling={pooling!r}", cure=f"There is: {', '.join(_POOLING)}.")
    rows = [_fitting(tokenizer, text, model.context_length) for text in texts]
    for number, row in enumerate(rows):
        if len(row) == 0:
            raise ModelError(f"text {number} is empty", cure="Leave it out.")
    device = model.embed.tokens.weight.device
    vectors = torch.empty(len(rows), model.config.d_model, device=device)
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with evaluating(model):
        for start in range(0, len(rows), batch_size):
            chosen = by_length[start : start + batch_size]
            ids = torch.nn.utils.rnn.pad_sequence([rows[i] for i in chosen], batch_first=True)
            lengths = torch.tensor([len(rows[i]) for i in chosen])
            text = torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)
            ids, text = ids.to(device), text.to(device)
            hidden = model.hidden_states(ids, document_ids=text.long()).float()
            vectors[chosen] = _POOLING[pooling](hidden, text)
    return F.normalize(vectors, dim=-1) if normalise else vectors


def _fitting(tokenizer: Tokenizer, text: str, context_length: int) -> Tensor:
    ids = tokenizer.encode(text, add_special_tokens=True)
    if len(ids) > context_length:
        plain = tokenizer.encode(text)
        n_special = len(ids) - len(plain)
        kept = plain[: max(context_length - n_special, 0)]
        ids = tokenizer.template.apply(kept) if tokenizer.template else kept
    return torch.as_tensor(ids, dtype=torch.int64)


def _mean(
    hidden: Float[Tensor, "batch seq d_model"], text: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch d_model"]:
    weights = text.unsqueeze(-1) / text.sum(-1).view(-1, 1, 1)
    return (hidden * weights).sum(1)


def _first(
    hidden: Float[Tensor, "batch seq d_model"], text: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch d_model"]:
    return hidden[:, 0]


def _last(
    hidden: Float[Tensor, "batch seq d_model"], text: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch d_model"]:
    return hidden[torch.arange(len(hidden), device=hidden.device), text.sum(-1) - 1]


_POOLING = {"mean": _mean, "first": _first, "last": _last}
