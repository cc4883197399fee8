"""The wholes: language models made of parts."""

from stemma.models.initialization import InitConfig
from stemma.models.language_model import LanguageModel, token_log_probs
from stemma.models.presets import PRESETS, preset
from stemma.models.transformer import Transformer
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig

__all__ = [
    "PRESETS",
    "InitConfig",
    "LanguageModel",
    "LocalLayersConfig",
    "Transformer",
    "TransformerConfig",
    "preset",
    "token_log_probs",
]
