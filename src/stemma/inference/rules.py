"""What reshapes a distribution: pure functions of logits, each of one paper.

Every rule takes logits ``[batch, vocab]`` and returns logits ``[batch, vocab]``, with ``-inf`` for
what it excludes. Each keeps at least one id, so none of them can exclude everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.sampling_config import (
    COLDEST,
    valid_min_p,
    valid_penalty,
    valid_top_k,
    valid_top_p,
    valid_typical_p,
)

_FIRST_CANDIDATES = 256

N = TypeVar("N", int, float)


def _insist(valid: Callable[[N], N], value: N, name: str) -> None:
    """The same numbers as in a `SamplingConfig`."""
    try:
        valid(value)
    except ValueError as error:
        raise ModelError(f"{name} = {value}", cure=f"{error}.") from None


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
    if not temperature >= COLDEST:
        raise ModelError(
            f"temperature {temperature} cannot divide logits",
            cure="Use a temperature above 0, or take the argmax: that is temperature 0.",
        )


def keep_top_k(logits: Float[Tensor, "batch vocab"], k: int) -> Float[Tensor, "batch vocab"]:
    """Keep the ``k`` highest logits, and whatever ties with the last of them.

    Keeping ties makes it a rule about values alone: renaming the ids changes nothing.

    Source: Fan et al. 2018, arXiv:1805.04833, section 5.

    Raises:
        ModelError: if ``k`` is below 1.
    """
    _insist(valid_top_k, k, "k")
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

    Raises:
        ModelError: if ``p`` is no number above 0 up to 1.
    """
    _insist(valid_top_p, p, "p")
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

    Raises:
        ModelError: if ``p_base`` is no number above 0 up to 1.
    """
    _insist(valid_min_p, p_base, "p_base")
    threshold = logits.amax(dim=-1, keepdim=True) + math.log(p_base)
    return logits.masked_fill(logits < threshold, -math.inf)


def keep_typical(logits: Float[Tensor, "batch vocab"], mass: float) -> Float[Tensor, "batch vocab"]:
    """Keep the ids whose surprise is nearest to the expected one, until they hold ``mass``.

    Sorted by ``|-log p(i) - H|``, where ``H`` is the entropy of the row, the fewest ids stay that
    hold ``mass`` in all, and whatever ties with the last of them. A very probable id is as
    untypical as a very improbable one: the most probable need not stay.

    Source: Meister et al. 2022, arXiv:2202.00666, section 3.

    Raises:
        ModelError: if ``mass`` is no number above 0 up to 1.
    """
    _insist(valid_typical_p, mass, "mass")
    if mass >= 1:
        return logits
    log_probs = logits.log_softmax(dim=-1)
    probabilities = log_probs.exp()
    entropy = -(probabilities * log_probs).nansum(dim=-1, keepdim=True)
    distance = (-log_probs - entropy).abs()
    nearest, order = distance.sort(dim=-1)
    held = probabilities.gather(-1, order).cumsum(dim=-1)
    last = (held < mass).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return logits.masked_fill(distance > nearest.gather(-1, last), -math.inf)


def penalise_repetition(
    logits: Float[Tensor, "batch vocab"], seen: Int[Tensor, "batch seq"], penalty: float
) -> Float[Tensor, "batch vocab"]:
    """Make ids that were seen less probable: ``l / penalty`` if ``l > 0``, else ``l * penalty``.

    The paper divides every logit, which makes a *negative* one more probable; multiplying those,
    as later implementations do, is what the paper intends. Seeing an id twice counts once.

    Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1.

    Raises:
        ModelError: if ``penalty`` is no number above 0.
    """
    _insist(valid_penalty, penalty, "penalty")
    old = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(old > 0, old / penalty, old * penalty))


def penalise_frequency(
    logits: Float[Tensor, "batch vocab"],
    generated: Int[Tensor, "batch seq"],
    *,
    frequency: float = 0.0,
    presence: float = 0.0,
) -> Float[Tensor, "batch vocab"]:
    """Make ids that were generated less probable: ``l - c * frequency - (c > 0) * presence``.

    ``c`` counts how often an id was *generated*: the prompt does not count, as in OpenAI's API,
    where both penalties come from ("how often the token was sampled prior to this position").
    """
    counts = torch.zeros_like(logits).scatter_add(
        -1, generated, torch.ones_like(generated, dtype=logits.dtype)
    )
    return logits - frequency * counts - presence * (counts > 0).to(logits.dtype)


def check_bias(ids: Iterable[int], vocab_size: int) -> None:
    """Insist that the ids of a bias are those of a vocabulary.

    Raises:
        ModelError: if one is outside.
    """
    if outside := [id_ for id_ in ids if not 0 <= id_ < vocab_size]:
        raise ModelError(
            f"id {outside[0]} is outside the vocabulary of {vocab_size:,} ids", where="logit_bias"
        )


def add_bias(
    logits: Float[Tensor, "batch vocab"], bias: Mapping[int, float]
) -> Float[Tensor, "batch vocab"]:
    """Add a number to the logits of some ids.

    Raises:
        ModelError: if an id is outside the vocabulary.
    """
    check_bias(bias, logits.shape[-1])
    ids = torch.tensor([*bias], device=logits.device)
    values = torch.tensor([*bias.values()], dtype=logits.dtype, device=logits.device)
    return logits.index_add(-1, ids, values.expand(*logits.shape[:-1], -1))
