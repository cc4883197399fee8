"""The parts of a model: each a module that takes plain values, with a frozen config beside it."""

from stemma.nn.activation import ACTIVATIONS, Activation, ActivationName
from stemma.nn.attention import AttentionConfig, MultiHeadAttention, attend, attend_explicitly
from stemma.nn.block import Block, Placement
from stemma.nn.cache import KVCache
from stemma.nn.embedding import Embedding
from stemma.nn.feedforward import MLP, FeedForwardConfig, GatedMLP, GatedMLPConfig, MLPConfig
from stemma.nn.norm import LayerNorm, LayerNormConfig, NormConfig, RMSNorm, RMSNormConfig
from stemma.nn.position import (
    LearnedPositionsConfig,
    NoPositionsConfig,
    PositionConfig,
    Rotary,
    RotaryConfig,
)
from stemma.nn.rotary_scaling import (
    LinearScalingConfig,
    Llama3ScalingConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "ActivationName",
    "AttentionConfig",
    "Block",
    "Embedding",
    "FeedForwardConfig",
    "GatedMLP",
    "GatedMLPConfig",
    "KVCache",
    "LayerNorm",
    "LayerNormConfig",
    "LearnedPositionsConfig",
    "LinearScalingConfig",
    "Llama3ScalingConfig",
    "MLPConfig",
    "MultiHeadAttention",
    "NoPositionsConfig",
    "NormConfig",
    "Placement",
    "PositionConfig",
    "RMSNorm",
    "RMSNormConfig",
    "Rotary",
    "RotaryConfig",
    "RotaryScalingConfig",
    "YarnScalingConfig",
    "attend",
    "attend_explicitly",
]
