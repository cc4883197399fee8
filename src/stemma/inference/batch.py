"""Several texts, of any lengths, continued together until each has ended."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch

from stemma.errors import ModelError
from stemma.inference.cached_model import RaggedModel
from stemma.inference.engine import engine_for
from stemma.inference.evaluation_mode import evaluating
from stemma.inference.growing_text import PromptIds
from stemma.inference.requests import Desk, Request, Token, whole_or_nothing
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.inference.cached_model import RaggedCache
    from stemma.models import LanguageModel

_LONG = 256
"""Ids of a prompt that a CPU computes as fast as those of several prompts together."""


class Batch:
    """Texts that start together, each at its own length; one that has ended leaves the batch.

    Each gets the ids that it would get alone (up to the rounding of sums in another order): rows
    do not see each other, and each draws from a generator of its own.

    Args:
        model: one whose cache may be ragged.
        n_ids: ids from here on are padding of the vocabulary and never chosen.
    """

    def __init__(self, model: LanguageModel, *, n_ids: int | None = None) -> None:
        if not isinstance(model, RaggedModel):
            raise ModelError(
                f"{type(model).__name__} cannot keep rows of different lengths",
                cure="Generate its texts one after another.",
            )
        self._model: RaggedModel = model
        self._language_model = model
        self._desk = Desk(model, n_ids)
        self._rows: list[Request] = []
        self._cache: RaggedCache | None = None

    @property
    def busy(self) -> bool:
        """Whether any text is unfinished."""
        return bool(self._rows)

    def add(
        self,
        prompt_ids: PromptIds,
        *,
        max_new_tokens: int = 200,
        sampling: SamplingConfig | None = None,
        stop_ids: Collection[int] = (),
    ) -> int:
        """One text more, before the first step; returns its handle.

        Raises:
            ModelError: if the batch has begun, or the prompt is empty, too long or not the model's.
        """
        if self._cache is not None:
            raise ModelError(
                "the batch has begun", cure="A ContinuousBatch takes texts at any time."
            )
        request = self._desk.take(prompt_ids, max_new_tokens, sampling, stop_ids)
        if max_new_tokens > 0:
            self._rows.append(request)
        return request.handle

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Give each text its next id; on error or interrupt, none gets any, and it can be repeated.

        Raises:
            ModelError: naming a text whose logits are no numbers; the others go on without it
                (`leave`).
        """
        if not self._rows:
            return []
        with evaluating(self._language_model):
            cache = self._begun()
            lengths = cache.lengths
            try:
                with whole_or_nothing(self._rows):
                    tokens = self._choose(cache)
            except BaseException:
                cache.truncate(lengths)
                raise
        for token in tokens:
            if token.ended:
                self.leave(token.handle)
        return tokens

    def _choose(self, cache: RaggedCache) -> list[Token]:
        """The next id of each text, which has it then."""
        news = [row.text.ids[0, n:] for row, n in zip(self._rows, cache.lengths, strict=True)]
        counts = [len(new) for new in news]
        padded = torch.nn.utils.rnn.pad_sequence(news, batch_first=True)
        cache.expect(counts)
        hidden = self._model.hidden_states(padded, cache=cache)
        last = torch.tensor(counts, device=hidden.device) - 1
        logits = self._model.head(hidden[torch.arange(len(counts), device=last.device), last])
        return [row.choose(logits[i : i + 1]) for i, row in enumerate(self._rows)]

    def leave(self, handle: int) -> None:
        """End a text now; nothing happens if it has ended."""
        staying = [i for i, row in enumerate(self._rows) if row.handle != handle]
        if len(staying) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in staying]
        if self._cache is not None:
            self._cache.select(staying)

    def _begun(self) -> RaggedCache:
        """The cache, made when it is known how long the texts can get."""
        if self._cache is None:
            bounds = [min(row.longest, row.context or row.longest) for row in self._rows]
            self._model = engine_for(self._model, sum(bounds)) or self._model
            self._cache = self._model.new_ragged_cache(len(self._rows), capacity=max(bounds))
            self._feed_long_prompts(self._cache)
        return self._cache

    def _feed_long_prompts(self, cache: RaggedCache) -> None:
        """Add all but the last id of long prompts, one text after the other.

        A CPU is busy with one of them, and each alone needs neither padding nor a mask.
        """
        for i, row in enumerate(self._rows):
            ids = row.text.ids
            if ids.device.type == "cpu" and ids.shape[1] > _LONG:
                self._model.hidden_states(ids[:, :-1], cache=cache.row(i))
