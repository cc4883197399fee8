"""What guesses how a text goes on, for a larger model to check."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.decode import NextLogits
from stemma.inference.evaluation_mode import evaluating
from stemma.inference.growing_text import GrowingText
from stemma.inference.one_thread import on_one_thread
from stemma.inference.sampling import distribution, draw

if TYPE_CHECKING:
    from stemma.models import LanguageModel


class Proposal(NamedTuple):
    """How a text may go on.

    Attributes:
        ids: one after another; there may be none.
        probabilities: ``[len(ids), n_ids]``: by which each was drawn; None if none was drawn, and
            each had probability 1.
    """

    ids: list[int]
    probabilities: Float[Tensor, "n n_ids"] | None


class Draft(Protocol):
    """Anything that guesses, as long as it says by which probabilities."""

    def propose(self, text: GrowingText, n: int) -> Proposal:
        """At most ``n`` ids behind ``text``, which stays as it is (its generator may move)."""


class ModelDraft:
    """A smaller model with the same tokenizer; it guesses by the same rules as the larger one.

    Leviathan et al. 2022, arXiv:2211.17192.

    Args:
        model: the smaller model.
        cached: keep keys and values if it can.
    """

    def __init__(self, model: LanguageModel, *, cached: bool = True) -> None:
        self._model = model
        self._next_logits = NextLogits(model, cached=cached)

    def propose(self, text: GrowingText, n: int) -> Proposal:
        """Draw ``n`` ids; fewer where its own context ends."""
        if self._model.vocab_size < text.n_ids:
            raise ModelError(
                f"the draft has {self._model.vocab_size:,} ids, the model {text.n_ids:,}",
                cure="Draft with a model of the same tokenizer, or by prompt lookup.",
            )
        ids, probabilities = text.ids, list[Tensor]()
        context = self._model.context_length
        with evaluating(self._model):
            for _ in range(n):
                if context is not None and ids.shape[1] > context:
                    break
                q, ids = _guess(self._next_logits(ids), text, ids)
                probabilities.append(q)
        guessed = ids[0, text.length :].tolist()
        return Proposal(guessed, torch.stack(probabilities) if probabilities else None)


@on_one_thread
def _guess(
    logits: Float[Tensor, "1 vocab"], text: GrowingText, ids: Int[Tensor, "1 seq"]
) -> tuple[Float[Tensor, " n_ids"], Int[Tensor, "1 longer"]]:
    """The distribution behind ``ids``, by the text's rules, and the ids with one drawn from it."""
    allowed = text.allowed(logits)
    q = distribution(allowed, text.sampling, seen=ids, n_prompt=text.n_prompt)
    id_ = draw(q.log(), text.generator)
    return q[0], torch.cat([ids, id_.view(1, 1).to(ids)], dim=1)


class PromptLookup:
    """Guesses that what followed the last ids when they stood there before follows them again.

    The longest run of last ids that occurs earlier decides, and its latest occurrence. It pays
    where a text repeats its prompt: summaries, edited code, questions about a document.

    Saxena 2023, "Prompt lookup decoding"; Yang et al. 2023, arXiv:2304.04487.

    Args:
        longest: the most ids that are looked for.
        shortest: the fewest; what follows a single id that was there before is mostly another, and
            a wrong guess costs more than none.
    """

    def __init__(self, *, longest: int = 3, shortest: int = 2) -> None:
        if not 1 <= shortest <= longest:
            raise ModelError(f"shortest={shortest}, longest={longest}: 1 <= shortest <= longest")
        self._longest = longest
        self._shortest = shortest

    def propose(self, text: GrowingText, n: int) -> Proposal:
        """The ``n`` ids that followed; fewer where the text ends, none if nothing was found."""
        ids = text.ids[0]
        for length in range(min(self._longest, len(ids) - 1), self._shortest - 1, -1):
            start = _latest_before_end(ids, length)
            if start is not None:
                follows = ids[start + length : start + length + n].tolist()
                return Proposal(follows, None)
        return Proposal([], None)


def _latest_before_end(ids: Int[Tensor, " seq"], length: int) -> int | None:
    """Where the last ``length`` ids begin for the last time before the end."""
    runs = ids[:-1].unfold(0, length, 1)
    same = (runs == ids[-length:]).all(dim=1).nonzero()
    return int(same[-1]) if len(same) else None
