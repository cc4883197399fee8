"""The wholes: language models made of parts."""

from stemma.models.encoder_decoder import ConditionalDecoder, EncoderDecoder
from stemma.models.encoder_decoder_config import EncoderDecoderConfig
from stemma.models.initialization import InitConfig
from stemma.models.inspection import Inspection, inspect_config
from stemma.models.language_model import LanguageModel, token_log_probs
from stemma.models.presets import PRESETS, preset
from stemma.models.transformer import Transformer
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig

__all__ = [
    "PRESETS",
    "ConditionalDecoder",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "InitConfig",
    "Inspection",
    "LanguageModel",
    "LocalLayersConfig",
    "Transformer",
    "TransformerConfig",
    "inspect_config",
    "preset",
    "token_log_probs",
]
