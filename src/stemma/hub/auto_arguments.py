"""What `transformers` passes to a model, in the words of ours; what is not known is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.models import Transformer


def refuse_others(rest: Mapping[str, Any]) -> None:
    """Insist on arguments that are known.

    Raises:
        ModelError: naming one that is not, and says something.
    """
    if asked := [name for name, value in rest.items() if value is not None and value is not False]:
        raise ModelError(
            f"{asked[0]} is no argument of a model of stemma's own shapes", cure="Leave it out."
        )


def text_of(attention_mask: Tensor | None) -> Tensor | None:
    """1 where there is text, 0 at padding; None where all is text.

    Raises:
        ModelError: if it is not one of rows and positions.
    """
    if attention_mask is None:
        return None
    if attention_mask.ndim != 2:
        raise ModelError(
            f"an attention_mask of the shape {tuple(attention_mask.shape)}",
            cure="Give one number per position: 1 for text, 0 for padding.",
        )
    return None if bool(attention_mask.all()) else attention_mask


def check_length(text: Tensor | None, n: int) -> None:
    """Insist on a mask of ``n`` positions.

    Raises:
        ModelError: if it is of others.
    """
    if text is not None and text.shape[1] != n:
        raise ModelError(
            f"an attention_mask of {text.shape[1]} positions, and there are {n}",
            cure="Give one number per position, those in the cache included.",
        )


def check_positions(position_ids: Tensor | None, text: Tensor | None, n_past: int, n: int) -> None:
    """Insist on positions that count the text: who sees whom is decided by them too.

    Args:
        position_ids: of the new tokens, for each row or for all.
        text: of `text_of`, for old and new ones.
        n_past: how many a cache holds.
        n: how many are new.

    Raises:
        ModelError: if they are others.
    """
    if position_ids is None:
        return
    if text is None:
        right = (position_ids == torch.arange(n_past, n_past + n, device=position_ids.device)).all()
    else:
        right = ((position_ids == text.long().cumsum(-1)[:, -n:] - 1) | (text[:, -n:] == 0)).all()
    if not bool(right):
        raise ModelError(
            "position_ids that do not count the text from 0, padding left out",
            cure="Leave them out: positions follow from the attention_mask.",
        )


@contextmanager
def embedded(model: Transformer, vectors: Tensor) -> Iterator[None]:
    """Have the table of tokens give this thread these vectors, whatever the ids.

    Others may call the same model meanwhile: they are none of this text's.
    """
    thread = get_ident()

    def replace(_module: nn.Module, _inputs: object, usual: Tensor) -> Tensor:
        return vectors if get_ident() == thread else usual

    hook = model.embed.tokens.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def recorded(model: Transformer) -> Iterator[list[Tensor]]:
    """What each block reads in this thread."""
    states: list[Tensor] = []
    thread = get_ident()

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if get_ident() == thread:
            states.append(inputs[0])

    hooks = [block.register_forward_pre_hook(keep) for block in model.blocks]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def positions_kept(hidden: Tensor, positions: int | Tensor) -> Tensor:
    """The hidden vectors that the head is to read.

    Args:
        hidden: ``[batch, seq, d_model]``.
        positions: how many of the last ones, 0 for all; or which ones.

    Raises:
        ModelError: if they differ between rows.
    """
    if isinstance(positions, int):
        return hidden[:, -positions:] if positions else hidden
    if positions.ndim != 1:
        raise ModelError(
            f"logits_to_keep of the shape {tuple(positions.shape)}",
            cure="Give a number, or the positions that are kept in every row.",
        )
    return hidden[:, positions]
