"""Model, tokenizer and prompt -> text: streamed, or whole with everything known about it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from stemma.errors import ModelError
from stemma.inference.decode import Overflow, generate_ids
from stemma.inference.generation import Generation, Report, Writer
from stemma.inference.sampling_config import SamplingConfig
from stemma.models.language_model import check_vocabulary
from stemma.tokenizers import Tokenizer

if TYPE_CHECKING:
    from stemma.models import LanguageModel


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int] = "",
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: Iterable[str] = (),
    stop_ids: Collection[int] | None = None,
    top_alternatives: int = 0,
    overflow: Overflow = "error",
    cached: bool = True,
    decode: Callable[..., Generator[int, None, None]] = generate_ids,
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
        stop_ids: ids that end the text and are not shown; by default the tokenizer's `end_ids`.
        top_alternatives: how many of the most probable ids to report for each place.
        overflow: see `generate_ids`.
        cached: see `generate_ids`.
        decode: what chooses the ids, called as `generate_ids` is.

    Raises:
        ModelError: see `generate_ids`; and if the tokenizer has more ids than the model.
        ConfigError: if a stop string is empty.
    """
    check_vocabulary(tokenizer.vocab_size, model.vocab_size)
    sampling = with_seed(sampling or SamplingConfig())
    ends = tokenizer.end_ids if stop_ids is None else frozenset(stop_ids)
    report = Report(tokenizer, top_alternatives)
    prompt_ids = ids_of_prompt(tokenizer, prompt)
    ids = decode(
        model,
        prompt_ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_ids=ends,
        overflow=overflow,
        cached=cached,
        on_token=report.note,
        n_ids=tokenizer.vocab_size,
    )
    writer = Writer(tokenizer, prompt_ids if len(prompt) > 0 else (), stop=stop, end_ids=ends)

    def pieces() -> Generator[str, None, Generation]:
        with closing(ids):
            for id_ in ids:
                if piece := writer.push(id_):
                    yield piece
                if writer.ended:
                    break
        if rest := writer.finish():
            yield rest
        shown = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        return report.generation(shown, writer, writer.reason(max_new_tokens), sampling)

    return pieces()


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


def with_seed(sampling: SamplingConfig) -> SamplingConfig:
    """The same with a seed: a fresh one if it has none."""
    return sampling if sampling.seed is not None else sampling.replace(seed=secrets.randbits(32))


def ids_of_prompt(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> Sequence[int]:
    """Ids of a text, or ids as they are; of nothing, the token that begins a document."""
    if isinstance(prompt, str):
        ids: Sequence[int] = tokenizer.encode(prompt, add_special_tokens=True).tolist()
    else:
        ids = prompt
    if len(ids) == 0:
        if tokenizer.end_of_text is None:
            raise ModelError(
                "the prompt is empty, and the tokenizer has no end-of-text token to begin from",
                cure="Give a prompt of at least one character.",
            )
        return [tokenizer.end_of_text]
    return ids
