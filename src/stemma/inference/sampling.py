"""Logits -> one id: the rules in one order, and one function that draws.

`apply_rules` composes the rules of `stemma.inference.rules` in one stated order:

    repetition penalty -> frequency and presence penalties -> bias -> temperature
    -> top-k -> top-p -> min-p -> typical

The order is part of the definition. The repetition penalty acts on the sign of the model's own
logits, so it comes first. Temperature comes before truncation, because top-p and min-p look at
probabilities: at temperature 2 the nucleus of mass 0.9 is larger than at 1, and cutting first would
hand a set chosen at temperature 1 to a distribution that is no longer that one. (Top-k commutes
with temperature.) Each truncation sees the distribution that the one before it left, renormalised;
all but typical keep the most probable id.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.one_thread import on_one_thread
from stemma.inference.rules import (
    add_bias,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalise_frequency,
    penalise_repetition,
)
from stemma.inference.sampling_config import SamplingConfig


def apply_rules(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    *,
    seen: Int[Tensor, "batch seq"] | None = None,
    n_prompt: int = 0,
) -> Float[Tensor, "batch vocab"]:
    """Logits of the distribution that `sample` draws from, by all rules in this module's order.

    Under greedy choice only penalties and bias count: of the rest, all but typical keep the
    maximum anyway, and typical makes no sense there.

    Args:
        logits: unnormalised log-probabilities.
        config: the rules.
        seen: ids already in each text, for the penalties.
        n_prompt: how many of them are the prompt, which frequency and presence do not count.
    """
    if seen is not None:
        logits = _penalised(logits, config, seen, seen[..., n_prompt:])
    if config.logit_bias:
        logits = add_bias(logits, config.logit_bias)
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
    if config.typical_p is not None:
        logits = keep_typical(logits, config.typical_p)
    return logits


def _penalised(logits: Tensor, config: SamplingConfig, seen: Tensor, generated: Tensor) -> Tensor:
    if config.repetition_penalty != 1 and seen.shape[-1] > 0:
        logits = penalise_repetition(logits, seen, config.repetition_penalty)
    if (config.frequency_penalty or config.presence_penalty) and generated.shape[-1] > 0:
        logits = penalise_frequency(
            logits,
            generated,
            frequency=config.frequency_penalty,
            presence=config.presence_penalty,
        )
    return logits


@on_one_thread
def distribution(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    *,
    seen: Int[Tensor, "batch seq"] | None = None,
    n_prompt: int = 0,
) -> Float[Tensor, "batch vocab"]:
    """Probabilities by which `sample` chooses; one id has all of it under greedy choice.

    Args and errors are those of `sample`.
    """
    _check(logits)
    logits = apply_rules(logits.float(), config, seen=seen, n_prompt=n_prompt)
    if config.greedy:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    return logits.softmax(dim=-1)


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


@on_one_thread
def sample(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    generator: torch.Generator,
    *,
    seen: Int[Tensor, "batch seq"] | None = None,
    n_prompt: int = 0,
) -> Int[Tensor, " batch"]:
    """Choose the next id of every row.

    Args:
        logits: unnormalised log-probabilities; ``-inf`` excludes an id.
        config: the rules.
        generator: source of the draws (greedy choice draws nothing).
        seen: ids already in each text, for the penalties.
        n_prompt: how many of them are the prompt.

    Raises:
        ModelError: if a row holds NaN or +inf, or excludes every id.
    """
    _check(logits)
    logits = apply_rules(logits.float(), config, seen=seen, n_prompt=n_prompt)
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
