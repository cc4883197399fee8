"""What is known of a continuation, and how ids become text that may be shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.one_thread import on_one_thread
from stemma.inference.sampling_config import SamplingConfig
from stemma.inference.stopping import StopStrings
from stemma.tokenizers import StreamDecoder, Tokenizer

FinishReason = Literal["stop", "end_of_text", "length", "context"]
"""A stop string, the end-of-text token, ``max_new_tokens``, or a context that is full."""


@dataclass(frozen=True)
class Alternative:
    """An id that might have been chosen.

    Attributes:
        id: the id.
        text: what it spells by itself; U+FFFD stands for part of a character.
        log_prob: under the model itself, in nats.
    """

    id: int
    text: str
    log_prob: float


@dataclass(frozen=True)
class Generation:
    """A continuation.

    Attributes:
        prompt: the text that was continued.
        text: what follows it, without the stop string and the end-of-text token.
        ids: every id that was chosen, the one that ended the text included.
        log_probs: of each of ``ids`` under the model itself (no sampling rule), in nats.
        finish_reason: why it ended.
        seed: gives this text again; greedy choice does not use it.
        top_alternatives: for each of ``ids`` the most probable ones in its place, best first, if
            they were asked for; the id itself may be among them.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: FinishReason
    seed: int
    top_alternatives: tuple[tuple[Alternative, ...], ...] = ()


class Writer:
    """Ids -> text that may be shown, up to a stop string or an id that ends the text.

    Args:
        tokenizer: spells the ids.
        prompt_ids: what they follow: a word tokenizer puts a space between.
        stop: strings that end the text.
        end_ids: ids that end the text and are not shown.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Iterable[int] = (),
        *,
        stop: Iterable[str] = (),
        end_ids: Collection[int] = (),
    ) -> None:
        self._stopping = StopStrings(stop)
        self._decoder = StreamDecoder(tokenizer)
        self._end_ids = end_ids
        for id_ in prompt_ids:
            self._decoder.push(id_)
        self.ids: list[int] = []
        self.text = ""

    @property
    def ended(self) -> bool:
        """Whether a stop string or an id has ended the text."""
        return self.stopped or self._ended_by_id

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended it."""
        return self._stopping.found is not None

    @property
    def _ended_by_id(self) -> bool:
        return bool(self.ids) and self.ids[-1] in self._end_ids

    def push(self, id_: int) -> str:
        """Take the next id and return what can be shown now."""
        self.ids.append(id_)
        shown = "" if id_ in self._end_ids else self._stopping.push(self._decoder.push(id_))
        self.text += shown
        return shown

    def finish(self) -> str:
        """What was held back; a new text may not follow."""
        rest = self._stopping.push(self._decoder.finish()) + self._stopping.finish()
        self.text += rest
        return rest

    def reason(self, max_new_tokens: int) -> FinishReason:
        """Why the text ended, if it has."""
        if self.stopped:
            return "stop"
        if self._ended_by_id:
            return "end_of_text"
        return "length" if len(self.ids) == max_new_tokens else "context"


class Report:
    """What is known of each chosen id, gathered from the logits it was chosen from.

    Args:
        tokenizer: spells the alternatives.
        top_alternatives: how many to report; none by default.
    """

    def __init__(self, tokenizer: Tokenizer, top_alternatives: int = 0) -> None:
        if top_alternatives < 0:
            raise ModelError(f"top_alternatives={top_alternatives} is negative")
        self._tokenizer = tokenizer
        self._n = top_alternatives
        self._log_probs: list[Tensor] = []
        self._best: list[tuple[Alternative, ...]] = []

    @on_one_thread
    def note(self, id_: int, logits: Float[Tensor, " vocab"]) -> None:
        """An id was chosen from these logits."""
        logits = logits.float()
        normaliser = logits.logsumexp(-1)
        self._log_probs.append(logits[id_] - normaliser)
        if self._n:
            best = logits.topk(min(self._n, len(logits)))
            log_probs = (best.values - normaliser).tolist()
            pairs = zip(best.indices.tolist(), log_probs, strict=True)
            self._best.append(
                tuple(Alternative(i, self._tokenizer.decode([i]), x) for i, x in pairs)
            )

    def generation(
        self, prompt: str, writer: Writer, reason: FinishReason, sampling: SamplingConfig
    ) -> Generation:
        """Everything about a text that is finished."""
        n = len(writer.ids)
        return Generation(
            prompt=prompt,
            text=writer.text,
            ids=tuple(writer.ids),
            log_probs=tuple(torch.stack(self._log_probs[:n]).tolist()) if n else (),
            finish_reason=reason,
            seed=sampling.seed or 0,
            top_alternatives=tuple(self._best[:n]),
        )
