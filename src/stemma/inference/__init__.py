"""Model -> text.

The names load on first use, so that `stemma generate --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "STYLES": "stemma.inference.sampling",
    "Generation": "stemma.inference.text",
    "NextLogits": "stemma.inference.decode",
    "SamplingConfig": "stemma.inference.sampling",
    "StopStrings": "stemma.inference.stopping",
    "apply_rules": "stemma.inference.sampling",
    "apply_temperature": "stemma.inference.sampling",
    "collect": "stemma.inference.text",
    "decode_one": "stemma.inference.decode",
    "draw": "stemma.inference.sampling",
    "embed_texts": "stemma.inference.embeddings",
    "evaluating": "stemma.inference.decode",
    "generate": "stemma.inference.continuation",
    "generate_ids": "stemma.inference.decode",
    "generate_samples": "stemma.inference.continuation",
    "keep_min_p": "stemma.inference.sampling",
    "keep_top_k": "stemma.inference.sampling",
    "keep_top_p": "stemma.inference.sampling",
    "penalise_repetition": "stemma.inference.sampling",
    "predict": "stemma.inference.decode",
    "prefill": "stemma.inference.decode",
    "sample": "stemma.inference.sampling",
    "sample_seeds": "stemma.inference.continuation",
    "stream": "stemma.inference.text",
    "window_start": "stemma.inference.decode",
}

__all__ = [
    "STYLES",
    "Generation",
    "NextLogits",
    "SamplingConfig",
    "StopStrings",
    "apply_rules",
    "apply_temperature",
    "collect",
    "decode_one",
    "draw",
    "embed_texts",
    "evaluating",
    "generate",
    "generate_ids",
    "generate_samples",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "penalise_repetition",
    "predict",
    "prefill",
    "sample",
    "sample_seeds",
    "stream",
    "window_start",
]

if TYPE_CHECKING:
    from stemma.inference.continuation import generate, generate_samples, sample_seeds
    from stemma.inference.decode import (
        NextLogits,
        decode_one,
        evaluating,
        generate_ids,
        predict,
        prefill,
        window_start,
    )
    from stemma.inference.embeddings import embed_texts
    from stemma.inference.sampling import (
        STYLES,
        SamplingConfig,
        apply_rules,
        apply_temperature,
        draw,
        keep_min_p,
        keep_top_k,
        keep_top_p,
        penalise_repetition,
        sample,
    )
    from stemma.inference.stopping import StopStrings
    from stemma.inference.text import Generation, collect, stream


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
