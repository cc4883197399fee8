"""What is asked of a batch, and what comes back, id by id."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.evaluation_mode import device_of
from stemma.inference.growing_text import GrowingText, PromptIds, checked_prompt
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.models import LanguageModel

EndReason = Literal["end_of_text", "length", "context"]
"""A stop id, enough ids, or a context (or a memory) that is full."""


@dataclass(frozen=True)
class Token:
    """One id of one text.

    Attributes:
        handle: which text.
        id: what was chosen.
        logits: ``[n_ids]``: what it was chosen from, before any rule.
        ended: why it is the last, or None.
    """

    handle: int
    id: int
    logits: Float[Tensor, " n_ids"]
    ended: EndReason | None


class TokenSource(Protocol):
    """Texts that grow together."""

    def add(
        self,
        prompt_ids: PromptIds,
        *,
        max_new_tokens: int = 200,
        sampling: SamplingConfig | None = None,
        stop_ids: Collection[int] = (),
    ) -> int:
        """One text more; returns its handle."""

    def step(self) -> list[Token]:
        """Compute once, and give the ids that were chosen; none once nothing is left to do."""

    def leave(self, handle: int) -> None:
        """End a text now; nothing happens if it has ended."""

    @property
    def busy(self) -> bool:
        """Whether any text is unfinished."""


@dataclass
class Request:
    """A text that is to grow.

    Attributes:
        handle: its number.
        text: its ids and draws.
        longest: how many ids it may have in all.
        stop_ids: what ends it.
        context: how many ids can be seen; one more can still be chosen.
    """

    handle: int
    text: GrowingText
    longest: int
    stop_ids: frozenset[int]
    context: int | None

    def choose(self, logits: Float[Tensor, "1 vocab"]) -> Token:
        """Choose the next id.

        Raises:
            ModelError: naming the text, if that is impossible.
        """
        try:
            id_ = self.text.choose(logits)
        except ModelError as error:
            where = f"text {self.handle} of the batch"
            raise ModelError(error.what, where=where, cure=error.cure) from None
        return Token(self.handle, id_, self.text.allowed(logits)[0], self._ended(id_))

    def _ended(self, id_: int) -> EndReason | None:
        if id_ in self.stop_ids:
            return "end_of_text"
        if self.text.length >= self.longest:
            return "length"
        return "context" if self.context is not None and self.text.length > self.context else None


@contextmanager
def whole_or_nothing(requests: Sequence[Request]) -> Iterator[None]:
    """A step of a batch: if it does not come to its end, nothing was chosen in it."""
    marks = [request.text.mark() for request in requests]
    try:
        yield
    except BaseException:
        for request, mark in zip(requests, marks, strict=True):
            request.text.rewind(mark)
        raise


class Desk:
    """Where a batch takes requests to its model, checked and numbered.

    Args:
        model: any language model.
        n_ids: ids from here on are padding of the vocabulary and never chosen.
        room: bounds the context from outside.
    """

    def __init__(self, model: LanguageModel, n_ids: int | None, room: int | None = None) -> None:
        self._model = model
        self._n_ids = model.vocab_size if n_ids is None else min(n_ids, model.vocab_size)
        bounds = [n for n in (model.context_length, room) if n is not None]
        self._context = min(bounds, default=None)
        self._n_taken = 0

    def take(
        self,
        prompt_ids: PromptIds,
        max_new_tokens: int,
        sampling: SamplingConfig | None,
        stop_ids: Collection[int],
    ) -> Request:
        """The request to continue a prompt.

        Raises:
            ModelError: if the prompt is empty, too long, or not of this model, the rules name an
                id that it does not have, or ``max_new_tokens`` is negative.
        """
        if max_new_tokens < 0:
            raise ModelError(
                f"max_new_tokens={max_new_tokens} is negative", cure="Ask for 0 or more."
            )
        prompt = checked_prompt(prompt_ids, n_ids=self._n_ids, longest=self._context)
        text = GrowingText(
            prompt.to(device_of(self._model)), sampling or SamplingConfig(), n_ids=self._n_ids
        )
        longest = len(prompt) + max_new_tokens
        handle, self._n_taken = self._n_taken, self._n_taken + 1
        return Request(handle, text, longest, frozenset(stop_ids), self._context)
