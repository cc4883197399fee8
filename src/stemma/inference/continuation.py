"""Name and prompt -> text, in one call: what ``stemma.generate`` is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from stemma import hub
from stemma.errors import ModelError
from stemma.inference.decode import Overflow
from stemma.inference.generation import Generation
from stemma.inference.sampling_config import SamplingConfig, SamplingRules, laid_over
from stemma.inference.text import collect, stream

if TYPE_CHECKING:
    from stemma.models import LanguageModel
    from stemma.tokenizers import Tokenizer


def generate(
    model: str | Path | tuple[LanguageModel, Tokenizer],
    prompt: str | Sequence[int] = "",
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: str | Iterable[str] = (),
    top_alternatives: int = 0,
    overflow: Overflow = "error",
    **rules: Unpack[SamplingRules],
) -> Generation:
    """Continue a prompt: ``stemma.generate("runs/quickstart", "ROMEO:", top_p=0.9).text``.

    Args:
        model: a path or a name for `stemma.load`, or what that returned.
        prompt: text, or ids; nothing stands for the beginning of a document.
        max_new_tokens: the most tokens to add.
        sampling: how each is chosen; the model's own distribution by default.
        stop: one string or several, which end the text.
        top_alternatives: how many of the most probable ids to report for each place.
        overflow: ``"slide"`` goes on when the context is full.
        rules: fields of `SamplingConfig` by name, laid over ``sampling``.

    Raises:
        ConfigError: if a rule is unknown or out of range.
        ModelError: if the prompt is longer than the context, or has ids that are not the model's.
    """
    return generate_samples(
        model,
        prompt,
        num_samples=1,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop=stop,
        top_alternatives=top_alternatives,
        overflow=overflow,
        **rules,
    )[0]


def generate_samples(
    model: str | Path | tuple[LanguageModel, Tokenizer],
    prompt: str | Sequence[int] = "",
    *,
    num_samples: int,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: str | Iterable[str] = (),
    top_alternatives: int = 0,
    overflow: Overflow = "error",
    **rules: Unpack[SamplingRules],
) -> list[Generation]:
    """Several continuations of one prompt, each with a seed of its own (`sample_seeds`).

    Args and errors are those of `generate`; ``num_samples`` below 1 is a `ModelError` too.
    """
    sampling = laid_over(sampling or SamplingConfig(), rules)
    loaded, tokenizer = model if isinstance(model, tuple) else hub.load(model)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    return [
        collect(
            stream(
                loaded,
                tokenizer,
                prompt,
                max_new_tokens=max_new_tokens,
                sampling=sampling.replace(seed=seed),
                stop=stops,
                top_alternatives=top_alternatives,
                overflow=overflow,
            )
        )
        for seed in sample_seeds(sampling.seed, num_samples)
    ]


def sample_seeds(seed: int | None, num_samples: int) -> list[int]:
    """One seed for each sample: the first is ``seed`` itself, the others are hashed from it.

    So the seed reported with a sample gives this sample again, alone. None takes a fresh one.

    Raises:
        ModelError: if ``num_samples`` is below 1.
    """
    if num_samples < 1:
        raise ModelError(f"{num_samples} samples", cure="Ask for at least 1.")
    first = secrets.randbits(32) if seed is None else seed
    digests = (hashlib.sha256(f"{first}/{i}".encode()).digest() for i in range(1, num_samples))
    return [first, *(int.from_bytes(digest[:4], "big") for digest in digests)]
