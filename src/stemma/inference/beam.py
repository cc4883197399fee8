"""Beam search: the most probable text, looked for along several at once.

For open-ended text the most probable continuation is dull and repeats itself (Holtzman et al. 2020,
arXiv:1904.09751); for translation, where one meaning is to be said, it is what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.cached_model import CachedModel
from stemma.inference.decode import decode_one, predict, prefill
from stemma.inference.evaluation_mode import device_of, evaluating
from stemma.inference.growing_text import PromptIds, checked_prompt

if TYPE_CHECKING:
    from stemma.models import LanguageModel

LengthPenalty = Callable[[int], float]
"""Number of ids -> what the log-probability is divided by; above 0, and never falling or rising."""


def gnmt_penalty(alpha: float = 0.6) -> LengthPenalty:
    r""":math:`((5 + n) / 6)^\alpha`: 0 compares log-probabilities as they are, and favours short.

    Wu et al. 2016, arXiv:1609.08144, section 7.
    """
    return lambda n: float(((5 + n) / 6) ** alpha)


@dataclass(frozen=True)
class Beam:
    """A text that was found.

    Attributes:
        ids: behind the prompt, the one that ended it included.
        log_prob: of all of them, in nats.
        score: ``log_prob`` divided by the length penalty.
    """

    ids: tuple[int, ...]
    log_prob: float
    score: float


def beam_search(
    model: LanguageModel,
    prompt_ids: PromptIds,
    *,
    n_beams: int = 4,
    max_new_tokens: int,
    end_ids: Collection[int] = (),
    penalty: LengthPenalty | None = None,
    n_ids: int | None = None,
) -> list[Beam]:
    """The best texts behind a prompt, best first; at most ``n_beams``.

    At each length the ``n_beams`` most probable unfinished texts go on; one that ends is kept by
    its score if it is among the ``n_beams`` best of its length. The search ends when none of the
    unfinished can become better than those that are kept, or at ``max_new_tokens``.

    Args:
        model: any language model; one with a cache feeds each id once, and its rows are reordered.
        prompt_ids: at least one id.
        n_beams: how many are followed; 1 is greedy.
        max_new_tokens: the most ids to add.
        end_ids: ids that end a text.
        penalty: of the length; `gnmt_penalty` by default.
        n_ids: ids from here on are padding of the vocabulary and never chosen.

    Raises:
        ModelError: if the prompt is empty, too long or not the model's, or ``n_beams`` below 1.
    """
    if n_beams < 1 or max_new_tokens < 0:
        raise ModelError(f"n_beams={n_beams}, max_new_tokens={max_new_tokens}: at least 1 and 0")
    n_ids = model.vocab_size if n_ids is None else min(n_ids, model.vocab_size)
    prompt = checked_prompt(prompt_ids, n_ids=n_ids, longest=model.context_length)
    if model.context_length is not None:
        max_new_tokens = min(max_new_tokens, model.context_length + 1 - len(prompt))
    search = _Search(n_beams, max_new_tokens, frozenset(end_ids), penalty or gnmt_penalty())
    with evaluating(model), torch.inference_mode():
        logits_of = _Rows(model, prompt.to(device_of(model)).unsqueeze(0), max_new_tokens)
        for n in range(1, max_new_tokens + 1):
            rows = search.step(logits_of()[:, :n_ids].float().log_softmax(-1), n)
            if not rows:
                break
            logits_of.go_on(rows, [beam.ids[-1] for beam in search.running])
    return search.found


class _Rows:
    """The texts that are followed, as rows of the model."""

    def __init__(self, model: LanguageModel, prompt: Int[Tensor, "1 prompt"], n_new: int) -> None:
        self._model = model
        self._ids = prompt
        self._cached = model if isinstance(model, CachedModel) else None
        if self._cached is not None:
            self._cache = self._cached.new_cache(1, capacity=prompt.shape[1] + max(n_new - 1, 0))

    def __call__(self) -> Float[Tensor, "rows vocab"]:
        """Logits after each row."""
        if self._cached is None:
            return predict(self._model, self._ids)
        if self._cache.length == 0:
            return prefill(self._cached, self._ids, self._cache)
        return decode_one(self._cached, self._ids[:, -1:], self._cache)

    def go_on(self, rows: list[int], ids: list[int]) -> None:
        """Make row ``i`` what row ``rows[i]`` was, with one id more."""
        new = torch.tensor(ids, device=self._ids.device).unsqueeze(1)
        self._ids = torch.cat([self._ids[rows], new], dim=1)
        if self._cached is not None:
            self._cache.select(rows)


class _Search:
    """Which texts are followed and which were found; knows no model."""

    def __init__(
        self, n_beams: int, longest: int, end_ids: frozenset[int], penalty: LengthPenalty
    ) -> None:
        self._n_beams = n_beams
        self._longest = longest
        self._end_ids = end_ids
        self._penalty = penalty
        self.running = [Beam((), 0.0, 0.0)]
        self.found: list[Beam] = []

    def step(self, log_probs: Float[Tensor, "rows n_ids"], n: int) -> list[int]:
        """Go from ``n - 1`` to ``n`` ids; the rows that go on, none at the end."""
        before = torch.tensor([beam.log_prob for beam in self.running], dtype=torch.float64)
        totals = (before.unsqueeze(1).to(log_probs.device) + log_probs).flatten()
        # So many that n_beams are left even if every end id of every beam is among them.
        n_candidates = min(self._n_beams * (1 + max(len(self._end_ids), 1)), len(totals))
        best = totals.topk(n_candidates)
        going: list[Beam] = []
        rows: list[int] = []
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        for rank, (log_prob, index) in enumerate(pairs):
            row, id_ = divmod(index, log_probs.shape[1])
            beam = self._beam((*self.running[row].ids, id_), log_prob)
            if id_ in self._end_ids or n == self._longest:
                if rank < self._n_beams:
                    self._keep(beam)
            elif len(going) < self._n_beams and log_prob > float("-inf"):
                going.append(beam)
                rows.append(row)
        self.running = going
        return rows if self._can_improve(n) else []

    def _beam(self, ids: tuple[int, ...], log_prob: float) -> Beam:
        return Beam(ids, log_prob, log_prob / self._penalty(len(ids)))

    def _keep(self, beam: Beam) -> None:
        self.found = sorted([*self.found, beam], key=lambda found: -found.score)[: self._n_beams]

    def _can_improve(self, n: int) -> bool:
        """Log-probabilities only fall, so the best score is reached at the next id or the last."""
        if not self.running or len(self.found) < self._n_beams:
            return bool(self.running)
        highest = self.running[0].log_prob
        bound = max(highest / self._penalty(length) for length in (n + 1, self._longest))
        return bound > self.found[-1].score
