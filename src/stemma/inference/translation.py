"""Sources -> targets: greedy decoding with an encoder-decoder, all rows at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.evaluation_mode import evaluating

if TYPE_CHECKING:
    from stemma.models import EncoderDecoder


@torch.inference_mode()
def translate_ids(
    model: EncoderDecoder,
    sources: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    n_ids: int | None = None,
) -> list[list[int]]:
    """The most probable next id, again and again, until each target ends.

    Every source is read once, and every id of a target is fed once. A target ends after one of
    ``stop_ids``, which is its last id, or after ``max_new_tokens``, or where the context does. Each
    is what it would be alone: padding changes nothing.

    Args:
        model: in evaluation mode meanwhile.
        sources: ids of each, at least one.
        max_new_tokens: the most ids of a target.
        stop_ids: ids that end a target.
        n_ids: ids from here on are padding of the model's vocabulary and never chosen.

    Raises:
        ModelError: if there is no source, or one is empty, too long, or has ids that are not the
            model's.
    """
    device = model.decoder.embed.tokens.weight.device
    source_ids, mask = _padded(sources, device)
    steps = min(max_new_tokens, model.context_length)
    stops = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=device)
    targets: list[Tensor] = []
    with evaluating(model.decoder), evaluating(model.encoder):
        decoder = model.given(source_ids, source_mask=None if mask.all() else mask)
        cache = decoder.new_cache(len(sources), capacity=max(steps, 1))
        newest = torch.full((len(sources), 1), model.config.start_id, device=device)
        ended = torch.zeros(len(sources), dtype=torch.bool, device=device)
        while len(targets) < steps and not bool(ended.all()):
            logits = decoder.head(decoder.hidden_states(newest, cache=cache)[:, -1])
            newest = logits[:, :n_ids].argmax(-1, keepdim=True)
            targets.append(newest)
            ended |= torch.isin(newest.squeeze(1), stops)
    rows: list[list[int]] = torch.cat(targets, dim=1).tolist() if targets else [[]] * len(sources)
    return [_up_to_stop(row, stop_ids) for row in rows]


def _padded(sources: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of one length, and where they are not padding."""
    if not sources or not all(sources):
        raise ModelError(
            "a source is empty" if sources else "no sources",
            cure="Give every source its end-of-text token at least.",
        )
    longest = max(len(source) for source in sources)
    ids = torch.zeros(len(sources), longest, dtype=torch.int64)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = torch.as_tensor(source)
    lengths = torch.tensor([len(source) for source in sources])
    return ids.to(device), (torch.arange(longest) < lengths[:, None]).to(device)


def _up_to_stop(row: list[int], stop_ids: Collection[int]) -> list[int]:
    end = next((i + 1 for i, chosen in enumerate(row) if chosen in stop_ids), len(row))
    return row[:end]
