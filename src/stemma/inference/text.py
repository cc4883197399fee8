"""Model, tokenizer and prompt -> text: streamed, or whole with everything known about it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.decode import Overflow, generate_ids
from stemma.inference.sampling import SamplingConfig
from stemma.inference.stopping import StopStrings
from stemma.tokenizers import StreamDecoder, Tokenizer

if TYPE_CHECKING:
    from stemma.models import LanguageModel

FinishReason = Literal["stop", "end_of_text", "length", "context"]
"""A stop string, the end-of-text token, ``max_new_tokens``, or a context that is full."""


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
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: FinishReason
    seed: int


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int] = "",
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: Iterable[str] = (),
    overflow: Overflow = "error",
    cached: bool = True,
) -> Generator[str, None, Generation]:
    """Continue a prompt, yielding text as it comes, and return the whole `Generation`.

    No piece ends within a character, and no part of a stop string is ever yielded. What is checked
    about the input is checked at once, not at the first piece.

    Args:
        model: any language model.
        tokenizer: the model's own.
        prompt: text, or a list of ids; nothing stands for the beginning of a document, where the
            tokenizer has an end-of-text token. Special tokens in a text are plain text.
        max_new_tokens: the most tokens to add.
        sampling: how each is chosen; without a seed a fresh one is taken.
        stop: strings that end the text.
        overflow: see `generate_ids`.
        cached: see `generate_ids`.

    Raises:
        ModelError: see `generate_ids`; and if the tokenizer has more ids than the model.
        ConfigError: if a stop string is empty.
    """
    if tokenizer.vocab_size > model.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {model.vocab_size:,}",
            cure="Use the tokenizer that the model was trained with.",
        )
    sampling = sampling or SamplingConfig()
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
    end_of_text = tokenizer.end_of_text
    log_probs: list[Tensor] = []
    prompt_ids = _prompt_ids(tokenizer, prompt)
    ids = generate_ids(
        model,
        prompt_ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling.replace(seed=seed),
        stop_ids=() if end_of_text is None else (end_of_text,),
        overflow=overflow,
        cached=cached,
        on_token=lambda id_, logits: log_probs.append(logits[id_] - logits.logsumexp(-1)),
        n_ids=tokenizer.vocab_size,
    )
    stopping = StopStrings(stop)
    decoder = StreamDecoder(tokenizer)
    if len(prompt) > 0:
        # The first piece goes on from the prompt: a word tokenizer puts a space between.
        for id_ in prompt_ids:
            decoder.push(id_)

    def pieces() -> Generator[str, None, Generation]:
        chosen, text = yield from _spell(ids, decoder, stopping, end_of_text)
        return Generation(
            prompt=prompt if isinstance(prompt, str) else tokenizer.decode(prompt),
            text=text,
            ids=tuple(chosen),
            log_probs=tuple(torch.stack(log_probs).tolist()) if log_probs else (),
            finish_reason=_reason(chosen, stopping, end_of_text, max_new_tokens),
            seed=seed,
        )

    return pieces()


def _spell(
    ids: Generator[int, None, None],
    decoder: StreamDecoder,
    stopping: StopStrings,
    end_of_text: int | None,
) -> Generator[str, None, tuple[list[int], str]]:
    """Yield the text of ids as they come, up to a stop string; return the ids and the text."""
    chosen: list[int] = []
    text = ""
    with closing(ids):
        for id_ in ids:
            chosen.append(id_)
            piece = "" if id_ == end_of_text else stopping.push(decoder.push(id_))
            text += piece
            if piece:
                yield piece
            if stopping.found is not None:
                break
    if rest := stopping.push(decoder.finish()) + stopping.finish():
        text += rest
        yield rest
    return chosen, text


def _reason(
    chosen: Sequence[int], stopping: StopStrings, end_of_text: int | None, max_new_tokens: int
) -> FinishReason:
    if stopping.found is not None:
        return "stop"
    if chosen and chosen[-1] == end_of_text:
        return "end_of_text"
    return "length" if len(chosen) == max_new_tokens else "context"


def collect(
    pieces: Generator[str, None, Generation], show: Callable[[str], object] | None = None
) -> Generation:
    """Run a `stream` to its end, giving each piece to ``show``, and return its `Generation`."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            generation: Generation = end.value
            return generation
        if show is not None:
            show(piece)


def _prompt_ids(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> Sequence[int]:
    ids = tokenizer.encode(prompt).tolist() if isinstance(prompt, str) else prompt
    if len(ids) == 0:
        if tokenizer.end_of_text is None:
            raise ModelError(
                "the prompt is empty, and the tokenizer has no end-of-text token to begin from",
                cure="Give a prompt of at least one character.",
            )
        return [tokenizer.end_of_text]
    return ids
