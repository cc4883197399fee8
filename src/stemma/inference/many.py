"""Several prompts -> their texts, generated together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from stemma.errors import ModelError
from stemma.inference.batch import Batch
from stemma.inference.cached_model import PagedModel, RaggedModel
from stemma.inference.continuous import ContinuousBatch
from stemma.inference.generation import FinishReason, Generation, Report, Writer
from stemma.inference.requests import Token, TokenSource
from stemma.inference.sampling_config import SamplingConfig, SamplingRules, laid_over
from stemma.inference.several_texts import refuse_one_text
from stemma.inference.text import (
    collect,
    ids_of_prompt,
    stream,
    with_seed,
)
from stemma.models.language_model import check_vocabulary
from stemma.tokenizers import Tokenizer

if TYPE_CHECKING:
    from stemma.models import LanguageModel

Prompt = str | Sequence[int]

_BLOCK_SIZE = 16


class _Text:
    """One of the texts, as far as it has come."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: SamplingConfig,
        *,
        stop: Sequence[str],
        stop_ids: Collection[int],
        top_alternatives: int,
    ) -> None:
        self.prompt = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        self.prompt_ids = ids_of_prompt(tokenizer, prompt)
        self.sampling = with_seed(sampling)
        self.report = Report(tokenizer, top_alternatives)
        before = self.prompt_ids if len(prompt) > 0 else ()
        self.writer = Writer(tokenizer, before, stop=stop, end_ids=stop_ids)
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
    stop_ids: Collection[int] | None = None,
    top_alternatives: int = 0,
    rows: int = 16,
    source: TokenSource | None = None,
    **rules: Unpack[SamplingRules],
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
        stop_ids: ids that end a text and are not shown; by default the tokenizer's `end_ids`.
        top_alternatives: how many of the most probable ids to report for each place.
        rows: the most texts that are computed at once.
        source: what computes them; by default a `Batch` if all fit into ``rows``, else a
            `ContinuousBatch` with room for the ``rows`` longest.
        rules: fields of `SamplingConfig` by name, laid over ``sampling``; a seed is that of each.

    Returns:
        One `Generation` for each prompt, in their order.

    Raises:
        ModelError: as in `stream`; and if there is not one sampling for each prompt, or
            ``prompts`` is one string.
        ConfigError: if a rule is unknown or out of range.
    """
    refuse_one_text(prompts, "prompts")
    check_vocabulary(tokenizer.vocab_size, model.vocab_size)
    ends = tokenizer.end_ids if stop_ids is None else frozenset(stop_ids)
    options: dict[str, Any] = {
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
        "stop_ids": ends,
        "top_alternatives": top_alternatives,
    }
    samplings = _for_each(sampling, len(prompts), rules)
    if source is None and not isinstance(model, RaggedModel):
        return [
            collect(
                stream(
                    model,
                    tokenizer,
                    prompt,
                    max_new_tokens=max_new_tokens,
                    sampling=rule,
                    **options,
                )
            )
            for prompt, rule in zip(prompts, samplings, strict=True)
        ]
    texts = [
        _Text(tokenizer, prompt, rule, **options)
        for prompt, rule in zip(prompts, samplings, strict=True)
    ]
    longest = [len(text.prompt_ids) + max_new_tokens for text in texts]
    source = source or _source(model, longest, rows, tokenizer.vocab_size)
    _write(texts, source, max_new_tokens=max_new_tokens, stop_ids=ends)
    return [text.generation() for text in texts]


def _write(
    texts: Sequence[_Text], source: TokenSource, *, max_new_tokens: int, stop_ids: frozenset[int]
) -> None:
    """Give each text its ids, until all have ended."""
    by_handle = {
        source.add(
            text.prompt_ids,
            max_new_tokens=max_new_tokens,
            sampling=text.sampling,
            stop_ids=stop_ids,
        ): text
        for text in texts
    }
    while source.busy:
        for token in source.step():
            by_handle[token.handle].take(token)
            if by_handle[token.handle].writer.ended:
                source.leave(token.handle)


def _source(model: LanguageModel, longest: Sequence[int], rows: int, n_ids: int) -> TokenSource:
    """A batch of all texts, or an engine for the longest ``rows`` of them at once."""
    if len(longest) <= rows or not isinstance(model, PagedModel):
        return Batch(model, n_ids=n_ids)
    most = max(longest) if model.context_length is None else model.context_length
    sizes = sorted((min(n, most) for n in longest), reverse=True)[:rows]
    n_blocks = sum(-(-n // _BLOCK_SIZE) for n in sizes)
    return ContinuousBatch(
        model, n_blocks=n_blocks, block_size=_BLOCK_SIZE, max_rows=rows, n_ids=n_ids
    )


def _for_each(
    sampling: SamplingConfig | Sequence[SamplingConfig] | None, n: int, rules: SamplingRules
) -> Sequence[SamplingConfig]:
    """One sampling for each of ``n`` prompts, with the rules laid over it."""
    if sampling is None or isinstance(sampling, SamplingConfig):
        return [laid_over(sampling or SamplingConfig(), rules)] * n
    if len(sampling) != n:
        raise ModelError(
            f"{len(sampling)} samplings for {n} prompts", cure="Give one for all, or one for each."
        )
    return [laid_over(one, rules) for one in sampling]
