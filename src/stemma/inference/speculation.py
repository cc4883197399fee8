"""Speculative decoding: a draft guesses several ids, one pass of the model checks them all.

The model's distribution stays exactly what it is. Let p be its distribution after all sampling
rules at some place, and q that by which the draft drew id x, after the same rules: x is accepted
with probability ``min(1, p(x) / q(x))``; at the first that is not, an id is drawn from the residual
``(p - q)+ / sum (p - q)+`` instead, and what was guessed behind it is forgotten. If all are
accepted, the same pass gives one id more. Greedily, the text is that of the model alone.

Leviathan et al. 2022, arXiv:2211.17192, algorithm 1; Chen et al. 2023, arXiv:2302.01318.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.decode import NextLogits, OnToken, Overflow
from stemma.inference.drafts import Draft, Proposal
from stemma.inference.evaluation_mode import device_of, evaluating
from stemma.inference.growing_text import GrowingText, PromptIds, checked_prompt
from stemma.inference.one_thread import on_one_thread
from stemma.inference.sampling import distribution, draw
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.models import LanguageModel


@dataclass
class SpeculationStatistics:
    """What drafts were worth.

    Attributes:
        proposed: ids that were guessed.
        examined: those that were looked at: all up to the first that was not accepted.
        accepted: those that were accepted.
        target_calls: passes of the model.
        chosen: ids of the text.
        overlap: sum of ``sum min(p, q)`` over the examined places, whose mean is what the
            acceptance is expected to be.
    """

    proposed: int = 0
    examined: int = 0
    accepted: int = 0
    target_calls: int = 0
    chosen: int = 0
    overlap: float = 0.0

    @property
    def acceptance(self) -> float:
        """Part of the examined ids that was accepted."""
        return self.accepted / self.examined if self.examined else 0.0

    @property
    def tokens_per_call(self) -> float:
        """Ids for each pass of the model; 1 without any draft."""
        return self.chosen / self.target_calls if self.target_calls else 0.0


def residual(p: Float[Tensor, " n_ids"], q: Float[Tensor, " n_ids"]) -> Float[Tensor, " n_ids"]:
    """``(p - q)+``, from which the id in place of a refused one is drawn; not normalised."""
    rest = (p - q).clamp(min=0)
    # Only rounding can leave nothing where an id was refused: then p and q are the same.
    return rest if bool(rest.any()) else p


def speculate_ids(
    model: LanguageModel,
    prompt_ids: PromptIds,
    *,
    draft: Draft,
    n_draft: int = 4,
    max_new_tokens: int,
    sampling: SamplingConfig | None = None,
    stop_ids: Collection[int] = (),
    overflow: Overflow = "error",
    cached: bool = True,
    on_token: OnToken | None = None,
    n_ids: int | None = None,
    statistics: SpeculationStatistics | None = None,
) -> Generator[int, None, None]:
    """Continue a prompt as `generate_ids` does, with fewer passes of the model.

    Greedily the ids are the same. Drawn ids have the same distribution, but a seed gives others.

    Args:
        model: any language model; without a cache there is nothing to gain.
        prompt_ids: at least one id.
        draft: what guesses.
        n_draft: how many ids it guesses at once.
        max_new_tokens: as in `generate_ids`, like all that follow.
        sampling: how ids are chosen.
        stop_ids: ids that end the text.
        overflow: ``"error"``; a window does not slide here.
        cached: False recomputes the text for each pass.
        on_token: called with each id and its logits.
        n_ids: ids from here on are never chosen.
        statistics: filled while ids come.

    Raises:
        ModelError: as `generate_ids`; and for ``overflow="slide"``, or ``n_draft`` below 1.
    """
    if overflow != "error":
        raise ModelError(
            "a sliding window with speculation",
            cure="Leave one of them out: a draft is checked in one pass over one window.",
        )
    if n_draft < 1 or max_new_tokens < 0:
        raise ModelError(f"n_draft={n_draft}, max_new_tokens={max_new_tokens}: at least 1 and 0")
    n_ids = model.vocab_size if n_ids is None else min(n_ids, model.vocab_size)
    context = model.context_length
    prompt = checked_prompt(prompt_ids, n_ids=n_ids, longest=context)
    longest = len(prompt) + max_new_tokens
    longest = longest if context is None else min(longest, context + 1)
    return _speculate(
        GrowingText(prompt.to(device_of(model)), sampling or SamplingConfig(), n_ids=n_ids),
        model,
        draft,
        n_draft,
        longest,
        next_logits=NextLogits(model, cached=cached, longest=longest),
        stop_ids=frozenset(stop_ids),
        on_token=on_token,
        statistics=statistics or SpeculationStatistics(),
    )


@torch.inference_mode()
def _speculate(
    text: GrowingText,
    model: LanguageModel,
    draft: Draft,
    n_draft: int,
    longest: int,
    *,
    next_logits: NextLogits,
    stop_ids: frozenset[int],
    on_token: OnToken | None,
    statistics: SpeculationStatistics,
) -> Generator[int, None, None]:
    while text.length < longest:
        # The pass gives one id more than was guessed.
        proposal = draft.propose(text, min(n_draft, longest - text.length - 1))
        guessed = torch.tensor([proposal.ids], dtype=torch.int64, device=text.ids.device)
        n = len(proposal.ids)
        with evaluating(model):
            logits = next_logits.last(torch.cat([text.ids, guessed], dim=1), n + 1)
        statistics.target_calls += 1
        statistics.proposed += n
        for place in range(n + 1):
            here = text.allowed(logits[:, place])
            id_, go_on = _judge(text, here, proposal, place, statistics)
            text.add(id_)
            statistics.chosen += 1
            if on_token is not None:
                on_token(id_, here[0])
            yield id_
            if id_ in stop_ids:
                return
            if not go_on:
                break


@on_one_thread
def _judge(
    text: GrowingText,
    logits: Float[Tensor, "1 n_ids"],
    proposal: Proposal,
    place: int,
    statistics: SpeculationStatistics,
) -> tuple[int, bool]:
    """The id of one place, and whether the rest of the proposal still stands."""
    p = distribution(logits, text.sampling, seen=text.ids, n_prompt=text.n_prompt)[0]
    if place == len(proposal.ids):
        return _draw(p, text), False
    guess = proposal.ids[place]
    if proposal.probabilities is None:
        q = torch.zeros_like(p)
        q[guess] = 1
    else:
        q = proposal.probabilities[place].to(p)
    statistics.examined += 1
    statistics.overlap += float(torch.minimum(p, q).sum())
    uniform = torch.rand((), generator=text.generator, dtype=torch.float64)
    if float(uniform) * float(q[guess]) < float(p[guess]):
        statistics.accepted += 1
        return guess, True
    return _draw(residual(p, q), text), False


def _draw(weights: Float[Tensor, " n_ids"], text: GrowingText) -> int:
    if text.sampling.greedy:
        return int(weights.argmax())  # one id has all the weight, and a logarithm of zeros is slow
    return int(draw(weights.log().unsqueeze(0), text.generator))
