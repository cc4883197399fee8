"""One text while it is generated: its ids, its rules, its draws."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.one_thread import on_one_thread
from stemma.inference.rules import check_bias
from stemma.inference.sampling import sample
from stemma.inference.sampling_config import SamplingConfig

PromptIds = Sequence[int] | NDArray[np.integer] | Int[Tensor, " prompt"]

_FIRST_CAPACITY = 1024


class Mark(NamedTuple):
    """Where a text and its draws stood."""

    length: int
    generator: Tensor


class GrowingText:
    """A prompt and what was chosen behind it.

    Each text draws from a generator of its own, so that what is chosen depends on its seed and its
    logits alone: not on other texts of a batch, nor on when it is their turn.

    Args:
        prompt: its ids.
        sampling: the rules; without a seed a fresh one is taken.
        n_ids: ids from here on are padding of the model's vocabulary and never chosen.

    Raises:
        ModelError: if the rules name an id that the model does not have.
    """

    def __init__(
        self, prompt: Int[Tensor, " prompt"], sampling: SamplingConfig, *, n_ids: int
    ) -> None:
        check_bias(sampling.logit_bias or (), n_ids)
        self.n_prompt = self.length = len(prompt)
        self.sampling = sampling
        self.n_ids = n_ids
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        self.generator = torch.Generator().manual_seed(seed)
        room = prompt.new_empty(1, _FIRST_CAPACITY)
        self._ids = torch.cat([prompt.unsqueeze(0), room], dim=1)

    @property
    def ids(self) -> Int[Tensor, "1 length"]:
        """All ids so far."""
        return self._ids[:, : self.length]

    def allowed(self, logits: Float[Tensor, "1 vocab"]) -> Float[Tensor, "1 n_ids"]:
        """Logits without those of padding."""
        return logits[:, : self.n_ids]

    @on_one_thread
    def choose(self, logits: Float[Tensor, "1 vocab"]) -> int:
        """Choose the next id from the logits after this text, and add it.

        Raises:
            ModelError: if the logits are no numbers.
        """
        chosen = sample(
            self.allowed(logits),
            self.sampling,
            self.generator,
            seen=self.ids,
            n_prompt=self.n_prompt,
        )
        self.add(int(chosen))
        return int(chosen)

    def mark(self) -> Mark:
        """Where it stands, for `rewind`."""
        return Mark(self.length, self.generator.get_state())

    def rewind(self, mark: Mark) -> None:
        """Be what it was at a mark: what was chosen since is forgotten, and drawn anew."""
        self.length = mark.length
        self.generator.set_state(mark.generator)

    def add(self, id_: int) -> None:
        """Put an id behind the text."""
        if self.length == self._ids.shape[1]:
            self._ids = torch.cat([self._ids, torch.empty_like(self._ids)], dim=1)
        self._ids[0, self.length] = id_
        self.length += 1


def checked_prompt(
    prompt_ids: PromptIds, *, n_ids: int, longest: int | None
) -> Int[Tensor, " prompt"]:
    """The ids of a prompt as a row.

    Raises:
        ModelError: if it is empty, holds an id from ``n_ids`` on or more than ``longest`` ids.
    """
    prompt = torch.as_tensor(np.asarray(prompt_ids), dtype=torch.int64)
    if prompt.ndim != 1:
        raise ModelError(f"the prompt must be one row of ids, not {tuple(prompt.shape)}")
    if len(prompt) == 0:
        raise ModelError(
            "the prompt is empty: there is no id to continue from",
            cure="Give it at least one token, such as the end-of-text token.",
        )
    if longest is not None and len(prompt) > longest:
        raise ModelError(
            f"the prompt has {len(prompt):,} tokens, the model's context holds {longest:,}",
            cure="Shorten the prompt, or let a window slide over it: overflow='slide', --slide.",
        )
    lowest, highest = int(prompt.min()), int(prompt.max())
    if lowest < 0 or highest >= n_ids:
        raise ModelError(
            f"the prompt holds id {lowest if lowest < 0 else highest}, the vocabulary ends at "
            f"{n_ids - 1}",
            cure="Encode the prompt with the model's own tokenizer.",
        )
    return prompt
