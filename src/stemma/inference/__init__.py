"""Model -> text.

The names load on first use, so that `stemma generate --help` does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

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
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
