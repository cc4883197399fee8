"""Several prompts -> their texts, generated together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from stemma.errors import ModelError
from stemma.inference.batch import Batch
from stemma.inference.cached_model import RaggedModel
from stemma.inference.generation import FinishReason, Generation, Report, Writer
from stemma.inference.requests import Token, TokenSource
from stemma.inference.sampling_config import SamplingConfig
from stemma.inference.text import (
    check_tokenizer,
    collect,
    end_ids,
    ids_of_prompt,
    stream,
    with_seed,
)
from stemma.tokenizers import Tokenizer

if TYPE_CHECKING:
    from stemma.models import LanguageModel

Prompt = str | Sequence[int]


class _Text:
    """One of the texts, as far as it has come."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: SamplingConfig,
        stop: Sequence[str],
        top_alternatives: int,
    ) -> None:
        self.prompt = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        self.prompt_ids = ids_of_prompt(tokenizer, prompt)
        self.sampling = with_seed(sampling)
        self.report = Report(tokenizer, top_alternatives)
        before = self.prompt_ids if len(prompt) > 0 else ()
        self.writer = Writer(tokenizer, before, stop=stop, end_ids=end_ids(tokenizer))
        self.reason: FinishReason = "length"

    def take(self, token: Token) -> None:
        self.report.note(token.id, token.logits)
        self.writer.push(token.id)
        self.reason = token.ended or self.reason

    def generation(self) -> Generation:
        self.writer.finish()
        reason = "stop" if self.writer.stopped else self.reason
        return self.report.generation(self.prompt, self.writer, reason, self.sampling)


def generate_batch(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | Sequence[SamplingConfig] | None = None,
    stop: str | Iterable[str] = (),
    top_alternatives: int = 0,
    source: TokenSource | None = None,
) -> list[Generation]:
    """Continue prompts of any lengths together; each text is what it would be alone.

    Alone and together the sums are the same, but not always their order: in half precision an id
    whose logit nearly ties with another's may differ.

    Args:
        model: any language model; one that cannot keep rows of different lengths generates one text
            after another.
        tokenizer: the model's own.
        prompts: texts, or lists of ids.
        max_new_tokens: the most tokens to add to each.
        sampling: how ids are chosen, for all or for each; a row without a seed takes a fresh one.
        stop: one string or several, which end a text.
        top_alternatives: how many of the most probable ids to report for each place.
        source: a `ContinuousBatch`, for more texts than fit at once; a `Batch` of all by default.

    Returns:
        One `Generation` for each prompt, in their order.

    Raises:
        ModelError: as in `stream`; and if there is not one sampling for each prompt.
    """
    check_tokenizer(tokenizer, model)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    rules = _for_each(sampling, len(prompts))
    if source is None and not isinstance(model, RaggedModel):
        return [
            collect(
                stream(
                    model,
                    tokenizer,
                    prompt,
                    max_new_tokens=max_new_tokens,
                    sampling=rule,
                    stop=stops,
                    top_alternatives=top_alternatives,
                )
            )
            for prompt, rule in zip(prompts, rules, strict=True)
        ]
    source = source or Batch(model, n_ids=tokenizer.vocab_size)
    texts: dict[int, _Text] = {}
    for prompt, rule in zip(prompts, rules, strict=True):
        text = _Text(tokenizer, prompt, rule, stops, top_alternatives)
        handle = source.add(
            text.prompt_ids,
            max_new_tokens=max_new_tokens,
            sampling=text.sampling,
            stop_ids=end_ids(tokenizer),
        )
        texts[handle] = text
    while source.busy:
        for token in source.step():
            texts[token.handle].take(token)
            if texts[token.handle].writer.ended:
                source.leave(token.handle)
    return [text.generation() for text in texts.values()]


def _for_each(
    sampling: SamplingConfig | Sequence[SamplingConfig] | None, n: int
) -> Sequence[SamplingConfig]:
    if sampling is None or isinstance(sampling, SamplingConfig):
        return [sampling or SamplingConfig()] * n
    if len(sampling) != n:
        raise ModelError(
            f"{len(sampling)} samplings for {n} prompts", cure="Give one for all, or one for each."
        )
    return sampling
