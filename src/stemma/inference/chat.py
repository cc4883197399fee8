"""A conversation with a model: turns, and a cache that keeps what was said."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from stemma.errors import ModelError, StemmaError
from stemma.inference.chat_format import ChatFormat, Message
from stemma.inference.continuation import sample_seeds
from stemma.inference.decode import NextLogits, generate_ids
from stemma.inference.generation import FinishReason
from stemma.inference.sampling_config import SamplingConfig
from stemma.inference.text import stream

if TYPE_CHECKING:
    from stemma.models import LanguageModel
    from stemma.tokenizers import Tokenizer

CHAT_SAMPLING = SamplingConfig(temperature=0.7, top_p=0.95)
"""What is used where a model recommends nothing."""


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        text: of it.
        finish_reason: why it ended; None if it was interrupted.
        n_prompt: ids of the conversation before it.
        n_reused: those of them that the cache still held.
        n_tokens: ids of the answer.
        n_dropped: messages that were dropped to make room.
        first_token: seconds to the first id.
        seconds: for all of it.
    """

    text: str
    finish_reason: FinishReason | None
    n_prompt: int
    n_reused: int
    n_tokens: int
    n_dropped: int
    first_token: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Ids per second, behind the first."""
        after = self.seconds - self.first_token
        return (self.n_tokens - 1) / after if self.n_tokens > 1 and after > 0 else 0.0


class Chat:
    """A conversation; only what is new since the last turn is fed to the model.

    When the context has no room for an answer, the oldest question and its answer are left out of
    what the model is fed, for good; the system message stays.

    Args:
        model: any language model.
        tokenizer: the model's own.
        format_: how the conversation becomes a prompt.
        sampling: how ids are chosen; each answer has a seed of its own.
        max_new_tokens: the most ids of an answer.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        format_: ChatFormat,
        *,
        sampling: SamplingConfig = CHAT_SAMPLING,
        max_new_tokens: int = 512,
    ) -> None:
        self.tokenizer = tokenizer
        self.format = format_
        self.sampling = sampling
        self.max_new_tokens = max_new_tokens
        self.messages: list[Message] = []
        self._model = model
        self._next_logits = NextLogits(model)
        self._n_answers = 0

    @property
    def system(self) -> str | None:
        """The system message; without one, some chat templates write one of their own."""
        first = self.messages[:1]
        return first[0]["content"] if first and first[0]["role"] == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        rest = [message for message in self.messages if message["role"] != "system"]
        own = [{"role": "system", "content": text}] if text is not None else []
        self.messages = [*own, *rest]

    @property
    def context_length(self) -> int | None:
        """The most ids that the model sees."""
        return self._model.context_length

    def n_prompt(self) -> int:
        """Ids of the conversation so far."""
        return len(self.format.prompt_ids(self.messages))

    def reset(self) -> None:
        """Forget everything that was said; the system message stays."""
        self.messages = [message for message in self.messages if message["role"] == "system"]

    def undo(self) -> str | None:
        """Take the last question and its answer back; the question, or None if there is none."""
        while self.messages and self.messages[-1]["role"] != "system":
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def ask(self, question: str) -> Generator[str, None, Reply]:
        """Say something and stream the answer, which becomes part of the conversation.

        Closing the generator, or an exception inside it, keeps what there is of the answer; a
        question to which there is none is taken back.

        Raises:
            ModelError: if the question alone is longer than the context has room for.
        """
        before = [*self.messages]
        self.messages.append({"role": "user", "content": question})
        try:
            n_dropped, prompt_ids = self._make_room()
        except StemmaError:
            self.messages = before
            raise
        self._n_answers += 1
        seed = sample_seeds(self.sampling.seed, self._n_answers)[-1]
        n_reused = self._next_logits.n_shared(prompt_ids)
        pieces = stream(
            self._model,
            self.tokenizer,
            prompt_ids,
            max_new_tokens=self.max_new_tokens,
            sampling=self.sampling.replace(seed=seed),
            stop=self.format.stop,
            stop_ids=self.format.end_ids,
            decode=partial(_decode, kept=self._next_logits),
        )
        started = time.perf_counter()
        first: float | None = None
        text, ended = "", False
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    generation, ended = end.value, True
                    break
                first = first or time.perf_counter() - started
                text += piece
                yield piece
        finally:
            answer = self.format.answer(text)
            if ended or answer:
                self.messages.append({"role": "assistant", "content": answer})
            else:
                self.messages.pop()
        seconds = time.perf_counter() - started
        return Reply(
            text=answer,
            finish_reason=generation.finish_reason,
            n_prompt=len(prompt_ids),
            n_reused=n_reused,
            n_tokens=len(generation.ids),
            n_dropped=n_dropped,
            first_token=seconds if first is None else first,
            seconds=seconds,
        )

    def _make_room(self) -> tuple[int, list[int]]:
        """Drop the oldest turns until an answer fits; how many messages, and the ids left."""
        n_dropped = 0
        while True:
            ids = self.format.prompt_ids(self.messages)
            room = self._room()
            if room is None or len(ids) <= room:
                return n_dropped, ids
            n_oldest = _oldest_turn(self.messages)
            if n_oldest == 0:
                raise ModelError(
                    f"this message makes {len(ids):,} tokens, and the context of "
                    f"{self.context_length:,} leaves {room:,} for it",
                    cure="Make it shorter, or shorten the system message.",
                )
            start = 1 if self.system is not None else 0
            del self.messages[start : start + n_oldest]
            n_dropped += n_oldest

    def _room(self) -> int | None:
        """Ids that the prompt may have: an answer gets a quarter of the context if it wants it."""
        if self.context_length is None:
            return None
        return self.context_length - min(self.max_new_tokens, self.context_length // 4)


def _decode(*arguments: object, kept: NextLogits, **options: object) -> Generator[int, None, None]:
    return generate_ids(*arguments, kept=kept, **options)  # type: ignore[arg-type]


def _oldest_turn(messages: Sequence[Message]) -> int:
    """Messages from the first question to before the second; 0 if there is no second."""
    asked = [i for i, message in enumerate(messages) if message["role"] == "user"]
    return asked[1] - asked[0] if len(asked) > 1 else 0
