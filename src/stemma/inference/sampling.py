"""Logits -> one id: pure functions that reshape a distribution, and one that draws from it.

Every rule takes logits ``[batch, vocab]`` and returns logits ``[batch, vocab]``, with ``-inf`` for
what it excludes; the highest logit always stays, so none of them can exclude everything.
`apply_rules` composes them in one stated order:

    repetition penalty -> temperature -> top-k -> top-p -> min-p

The order is part of the definition. The penalty acts on the sign of the model's own logits, so it
comes first. Temperature comes before truncation, because top-p and min-p look at probabilities: at
temperature 2 the nucleus of mass 0.9 is larger than at 1, and cutting first would hand a set chosen
at temperature 1 to a distribution that is no longer that one. (Top-k commutes with temperature.)
Each truncation sees the distribution that the one before it left, renormalised.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor

from stemma.config import Config
from stemma.errors import ModelError

# Below this, float32 logits that differ at all differ by more than exp can represent.
_COLDEST = 1e-6
_FIRST_CANDIDATES = 256


def _temperature(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            "a temperature is a number from 0 up; 0 is greedy, 1 leaves the model as it is"
        )
    return value


def _top_k(value: int) -> int:
    if value < 1:
        raise ValueError("top-k keeps at least 1 id; leave it out to keep them all")
    return value


def _top_p(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("top-p is a probability mass in (0, 1]; 1 keeps every id")
    return value


def _min_p(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(
            "min-p is a fraction in (0, 1] of the highest probability; leave it out to keep all"
        )
    return value


def _penalty(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError("a repetition penalty is a number above 0; 1 is none, 1.2 is usual")
    return value


class SamplingConfig(Config):
    """How the next id is chosen from the logits; the default is the model's own distribution."""

    temperature: Annotated[float, AfterValidator(_temperature)] = Field(
        default=1.0, description="divides the logits; 0 takes the most probable id"
    )
    top_k: Annotated[int, AfterValidator(_top_k)] | None = Field(
        default=None, description="keep the k most probable ids"
    )
    top_p: Annotated[float, AfterValidator(_top_p)] | None = Field(
        default=None, description="keep the fewest ids that hold this much probability"
    )
    min_p: Annotated[float, AfterValidator(_min_p)] | None = Field(
        default=None, description="keep ids with at least this fraction of the highest probability"
    )
    repetition_penalty: Annotated[float, AfterValidator(_penalty)] = Field(
        default=1.0, description="makes ids already in the text less probable"
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="of the draws; None takes a fresh one, and reports it",
    )

    @property
    def greedy(self) -> bool:
        """Whether the most probable id is taken, without any draw (temperature 0)."""
        return self.temperature < _COLDEST


STYLES: dict[str, SamplingConfig] = {
    "greedy": SamplingConfig(temperature=0.0),
    "temperature 0.8": SamplingConfig(temperature=0.8),
    "top-k 40": SamplingConfig(top_k=40),
    "top-p 0.9": SamplingConfig(top_p=0.9),
    "min-p 0.1": SamplingConfig(min_p=0.1),
}
"""The five classical ways of choosing, to be shown side by side."""


def apply_temperature(
    logits: Float[Tensor, "batch vocab"], temperature: float
) -> Float[Tensor, "batch vocab"]:
    """Sharpen (below 1) or flatten (above 1) the distribution: ``(l - max l) / T``.

    The maximum is taken off first, which leaves the distribution as it is and keeps a small
    ``T`` from overflowing.

    Source: Ackley et al. 1985, "A learning algorithm for Boltzmann machines".
    """
    _temperature_above_zero(temperature)
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def _temperature_above_zero(temperature: float) -> None:
    if not temperature >= _COLDEST:
        raise ModelError(
            f"temperature {temperature} cannot divide logits",
            cure="Use a temperature above 0, or take the argmax: that is temperature 0.",
        )


def keep_top_k(logits: Float[Tensor, "batch vocab"], k: int) -> Float[Tensor, "batch vocab"]:
    """Keep the ``k`` highest logits, and whatever ties with the last of them.

    Keeping ties makes it a rule about values alone: renaming the ids changes nothing.

    Source: Fan et al. 2018, arXiv:1805.04833, section 5.
    """
    if k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, -math.inf)


def keep_top_p(logits: Float[Tensor, "batch vocab"], p: float) -> Float[Tensor, "batch vocab"]:
    """Keep the nucleus: the fewest ids whose probability is at least ``p`` in all.

    Sorted by probability, id ``i`` stays while the mass *before* it is below ``p``, so the id that
    crosses ``p`` belongs to the nucleus and at least one always stays. Among equals at the edge,
    only as many stay as are needed.

    A nucleus is small as a rule, so a few hundred candidates are sorted first, and more of the
    vocabulary only if they do not hold ``p``; the result is that of sorting everything.

    Source: Holtzman et al. 2020, arXiv:1904.09751, section 3.1.
    """
    vocab_size = logits.shape[-1]
    if p >= 1:
        return logits
    log_normaliser = logits.logsumexp(dim=-1, keepdim=True)
    n_candidates = min(_FIRST_CANDIDATES, vocab_size)
    while True:
        values, ids = logits.topk(n_candidates, dim=-1)
        probabilities = (values - log_normaliser).exp()
        mass_before = probabilities.cumsum(dim=-1) - probabilities
        inside = mass_before < p
        if n_candidates == vocab_size or not bool(inside[..., -1].any()):
            break
        n_candidates = min(16 * n_candidates, vocab_size)
    kept = values.masked_fill(~inside, -math.inf)
    return torch.full_like(logits, -math.inf).scatter(-1, ids, kept)


def keep_min_p(logits: Float[Tensor, "batch vocab"], p_base: float) -> Float[Tensor, "batch vocab"]:
    """Keep ids at least ``p_base`` times as probable as the best: ``l >= max l + log p_base``.

    Source: Nguyen et al. 2024, arXiv:2407.01082, section 3.
    """
    threshold = logits.amax(dim=-1, keepdim=True) + math.log(p_base)
    return logits.masked_fill(logits < threshold, -math.inf)


def penalise_repetition(
    logits: Float[Tensor, "batch vocab"], seen: Int[Tensor, "batch seq"], penalty: float
) -> Float[Tensor, "batch vocab"]:
    """Make ids that were seen less probable: ``l / penalty`` if ``l > 0``, else ``l * penalty``.

    The paper divides every logit, which makes a *negative* one more probable; multiplying those,
    as later implementations do, is what the paper intends. Seeing an id twice counts once.

    Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1.
    """
    old = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(old > 0, old / penalty, old * penalty))


def apply_rules(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    *,
    seen: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch vocab"]:
    """Logits of the distribution that `sample` draws from, by all rules in this module's order.

    Under greedy choice only the repetition penalty counts: the rest keeps the maximum anyway.
    """
    if config.repetition_penalty != 1 and seen is not None and seen.shape[-1] > 0:
        logits = penalise_repetition(logits, seen, config.repetition_penalty)
    if config.greedy:
        return logits
    if config.temperature != 1:
        logits = apply_temperature(logits, config.temperature)
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = keep_min_p(logits, config.min_p)
    return logits


def draw(logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """Draw one id per row from ``softmax(logits)``, by inverting the cumulative distribution.

    One uniform number per row, drawn on the generator's own device: a seed means the same on every
    device, and ids that cannot occur do not shift the draws. Float64 keeps ids far below float32's
    resolution of the cumulative sum (6e-8) reachable; an id of probability 0 is never drawn.
    """
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    uniform = torch.rand(
        (logits.shape[0], 1), generator=generator, device=generator.device, dtype=torch.float64
    )
    # A uniform number below 1 has 53 bits, so the product rounds to less than the total.
    target = uniform.to(logits.device) * total
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def sample(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    generator: torch.Generator,
    *,
    seen: Int[Tensor, "batch seq"] | None = None,
) -> Int[Tensor, " batch"]:
    """Choose the next id of every row.

    Args:
        logits: unnormalised log-probabilities; ``-inf`` excludes an id.
        config: the rules.
        generator: source of the draws (greedy choice draws nothing).
        seen: ids already in each text, for the repetition penalty.

    Raises:
        ModelError: if a row holds NaN or +inf, or excludes every id.
    """
    _check(logits)
    logits = apply_rules(logits.float(), config, seen=seen)
    return logits.argmax(dim=-1) if config.greedy else draw(logits, generator)


def _check(logits: Tensor) -> None:
    """One reduction: the maximum is NaN if anything is, and -inf only if everything is."""
    highest = logits.amax(dim=-1)
    if bool(highest.isfinite().all()):
        return
    row = int((~highest.isfinite()).nonzero()[0])
    value: Any = float(highest[row])
    if value == -math.inf:
        raise ModelError(
            "every id is excluded: all logits are -inf",
            where=f"logits of row {row}",
            cure="Leave at least one id possible.",
        )
    raise ModelError(
        f"the model's logits hold {value}",
        where=f"logits of row {row}",
        cure="The weights are damaged or training diverged: go back to an earlier checkpoint.",
    )
