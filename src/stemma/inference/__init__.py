"""Model -> text.

The names load on first use, so that `stemma generate --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "CHAT_SAMPLING": "stemma.inference.chat",
    "STYLES": "stemma.inference.sampling_config",
    "Alternative": "stemma.inference.generation",
    "Batch": "stemma.inference.batch",
    "BatchStatistics": "stemma.inference.continuous",
    "Beam": "stemma.inference.beam",
    "Blocks": "stemma.inference.blocks",
    "CachedModel": "stemma.inference.cached_model",
    "Chat": "stemma.inference.chat",
    "ChatFormat": "stemma.inference.chat_format",
    "ChatTerminal": "stemma.inference.chat_terminal",
    "CompiledModel": "stemma.inference.compilation",
    "ContinuousBatch": "stemma.inference.continuous",
    "Draft": "stemma.inference.drafts",
    "Engine": "stemma.inference.engine",
    "Generation": "stemma.inference.generation",
    "GrowingText": "stemma.inference.growing_text",
    "ModelDraft": "stemma.inference.drafts",
    "NextLogits": "stemma.inference.decode",
    "PagedModel": "stemma.inference.cached_model",
    "PromptLookup": "stemma.inference.drafts",
    "Proposal": "stemma.inference.drafts",
    "QuantisedEmbedding": "stemma.inference.quantisation",
    "QuantisedLinear": "stemma.inference.quantisation",
    "RaggedModel": "stemma.inference.cached_model",
    "Reply": "stemma.inference.chat",
    "Report": "stemma.inference.generation",
    "SamplingConfig": "stemma.inference.sampling_config",
    "SpeculationStatistics": "stemma.inference.speculation",
    "StopStrings": "stemma.inference.stopping",
    "TemplateFormat": "stemma.inference.chat_format",
    "Token": "stemma.inference.requests",
    "TokenSource": "stemma.inference.requests",
    "TranscriptFormat": "stemma.inference.chat_format",
    "Writer": "stemma.inference.generation",
    "add_bias": "stemma.inference.rules",
    "apply_rules": "stemma.inference.sampling",
    "apply_temperature": "stemma.inference.rules",
    "beam_search": "stemma.inference.beam",
    "collect": "stemma.inference.text",
    "compiled": "stemma.inference.compilation",
    "decode_one": "stemma.inference.decode",
    "distribution": "stemma.inference.sampling",
    "draw": "stemma.inference.sampling",
    "embed_texts": "stemma.inference.embeddings",
    "evaluating": "stemma.inference.evaluation_mode",
    "generate": "stemma.inference.continuation",
    "generate_batch": "stemma.inference.many",
    "generate_ids": "stemma.inference.decode",
    "generate_samples": "stemma.inference.continuation",
    "gnmt_penalty": "stemma.inference.beam",
    "keep_min_p": "stemma.inference.rules",
    "keep_top_k": "stemma.inference.rules",
    "keep_top_p": "stemma.inference.rules",
    "keep_typical": "stemma.inference.rules",
    "load_chat": "stemma.inference.chat_file",
    "obstacle": "stemma.inference.engine",
    "parse_bias": "stemma.inference.bias",
    "penalise_frequency": "stemma.inference.rules",
    "penalise_repetition": "stemma.inference.rules",
    "predict": "stemma.inference.decode",
    "prefill": "stemma.inference.decode",
    "quantise": "stemma.inference.quantisation",
    "residual": "stemma.inference.speculation",
    "sample": "stemma.inference.sampling",
    "sample_seeds": "stemma.inference.continuation",
    "save_chat": "stemma.inference.chat_file",
    "speculate_ids": "stemma.inference.speculation",
    "stream": "stemma.inference.text",
    "translate_ids": "stemma.inference.translation",
    "window_start": "stemma.inference.decode",
}

__all__ = [
    "CHAT_SAMPLING",
    "STYLES",
    "Alternative",
    "Batch",
    "BatchStatistics",
    "Beam",
    "Blocks",
    "CachedModel",
    "Chat",
    "ChatFormat",
    "ChatTerminal",
    "CompiledModel",
    "ContinuousBatch",
    "Draft",
    "Engine",
    "Generation",
    "GrowingText",
    "ModelDraft",
    "NextLogits",
    "PagedModel",
    "PromptLookup",
    "Proposal",
    "QuantisedEmbedding",
    "QuantisedLinear",
    "RaggedModel",
    "Reply",
    "Report",
    "SamplingConfig",
    "SpeculationStatistics",
    "StopStrings",
    "TemplateFormat",
    "Token",
    "TokenSource",
    "TranscriptFormat",
    "Writer",
    "add_bias",
    "apply_rules",
    "apply_temperature",
    "beam_search",
    "collect",
    "compiled",
    "decode_one",
    "distribution",
    "draw",
    "embed_texts",
    "evaluating",
    "generate",
    "generate_batch",
    "generate_ids",
    "generate_samples",
    "gnmt_penalty",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "keep_typical",
    "load_chat",
    "obstacle",
    "parse_bias",
    "penalise_frequency",
    "penalise_repetition",
    "predict",
    "prefill",
    "quantise",
    "residual",
    "sample",
    "sample_seeds",
    "save_chat",
    "speculate_ids",
    "stream",
    "translate_ids",
    "window_start",
]

if TYPE_CHECKING:
    from stemma.inference.batch import Batch
    from stemma.inference.beam import Beam, beam_search, gnmt_penalty
    from stemma.inference.bias import parse_bias
    from stemma.inference.blocks import Blocks
    from stemma.inference.cached_model import CachedModel, PagedModel, RaggedModel
    from stemma.inference.chat import CHAT_SAMPLING, Chat, Reply
    from stemma.inference.chat_file import load_chat, save_chat
    from stemma.inference.chat_format import ChatFormat, TemplateFormat, TranscriptFormat
    from stemma.inference.chat_terminal import ChatTerminal
    from stemma.inference.compilation import CompiledModel, compiled
    from stemma.inference.continuation import generate, generate_samples, sample_seeds
    from stemma.inference.continuous import BatchStatistics, ContinuousBatch
    from stemma.inference.decode import (
        NextLogits,
        decode_one,
        generate_ids,
        predict,
        prefill,
        window_start,
    )
    from stemma.inference.drafts import Draft, ModelDraft, PromptLookup, Proposal
    from stemma.inference.embeddings import embed_texts
    from stemma.inference.engine import Engine, obstacle
    from stemma.inference.evaluation_mode import evaluating
    from stemma.inference.generation import Alternative, Generation, Report, Writer
    from stemma.inference.growing_text import GrowingText
    from stemma.inference.many import generate_batch
    from stemma.inference.quantisation import QuantisedEmbedding, QuantisedLinear, quantise
    from stemma.inference.requests import Token, TokenSource
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
    from stemma.inference.sampling import apply_rules, distribution, draw, sample
    from stemma.inference.sampling_config import STYLES, SamplingConfig
    from stemma.inference.speculation import SpeculationStatistics, residual, speculate_ids
    from stemma.inference.stopping import StopStrings
    from stemma.inference.text import collect, stream
    from stemma.inference.translation import translate_ids


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
