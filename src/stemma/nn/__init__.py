"""The parts of a model: each a module that takes plain values, with a frozen config beside it."""

from stemma.nn.activation import ACTIVATIONS, Activation, ActivationName
from stemma.nn.attend import Scoring, attend, attend_explicitly
from stemma.nn.attention import AttentionConfig, CrossAttention, Memory, MultiHeadAttention
from stemma.nn.block import Block, Placement
from stemma.nn.cache import Cache, CacheLayout, KVCache
from stemma.nn.embedding import Embedding
from stemma.nn.feedforward import MLP, FeedForwardConfig, GatedMLP, GatedMLPConfig, MLPConfig
from stemma.nn.fixed_cache import FixedCache
from stemma.nn.head import (
    Head,
    HeadConfig,
    LinearHeadConfig,
    MaskedHead,
    MaskedHeadConfig,
    NoHeadConfig,
    Pooler,
    PoolerConfig,
)
from stemma.nn.latent_attention import LatentAttention, LatentConfig
from stemma.nn.moe import MixtureOfExperts, MoEConfig
from stemma.nn.norm import LayerNorm, LayerNormConfig, NormConfig, RMSNorm, RMSNormConfig
from stemma.nn.paged_cache import BlockPool, PagedCache
from stemma.nn.position import (
    AlibiConfig,
    LearnedPositionsConfig,
    NoPositionsConfig,
    PositionConfig,
    RelativeBucketsConfig,
    Rotary,
    RotaryConfig,
    Sinusoidal,
    SinusoidalPositionsConfig,
)
from stemma.nn.position_bias import Alibi, PositionBias, RelativeBuckets
from stemma.nn.ragged_cache import RaggedCache
from stemma.nn.rotary_scaling import (
    LinearScalingConfig,
    Llama3ScalingConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)
from stemma.nn.routing import Routing
from stemma.nn.sight import Sight
from stemma.nn.source_attention import (
    LocalSourceAttention,
    SourceAttention,
    SourceAttentionConfig,
)
from stemma.nn.streams import StreamMix, Streams

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "ActivationName",
    "Alibi",
    "AlibiConfig",
    "AttentionConfig",
    "Block",
    "BlockPool",
    "Cache",
    "CacheLayout",
    "CrossAttention",
    "Embedding",
    "FeedForwardConfig",
    "FixedCache",
    "GatedMLP",
    "GatedMLPConfig",
    "Head",
    "HeadConfig",
    "KVCache",
    "LatentAttention",
    "LatentConfig",
    "LayerNorm",
    "LayerNormConfig",
    "LearnedPositionsConfig",
    "LinearHeadConfig",
    "LinearScalingConfig",
    "Llama3ScalingConfig",
    "LocalSourceAttention",
    "MLPConfig",
    "MaskedHead",
    "MaskedHeadConfig",
    "Memory",
    "MixtureOfExperts",
    "MoEConfig",
    "MultiHeadAttention",
    "NoHeadConfig",
    "NoPositionsConfig",
    "NormConfig",
    "PagedCache",
    "Placement",
    "Pooler",
    "PoolerConfig",
    "PositionBias",
    "PositionConfig",
    "RMSNorm",
    "RMSNormConfig",
    "RaggedCache",
    "RelativeBuckets",
    "RelativeBucketsConfig",
    "Rotary",
    "RotaryConfig",
    "RotaryScalingConfig",
    "Routing",
    "Scoring",
    "Sight",
    "Sinusoidal",
    "SinusoidalPositionsConfig",
    "SourceAttention",
    "SourceAttentionConfig",
    "StreamMix",
    "Streams",
    "YarnScalingConfig",
    "attend",
    "attend_explicitly",
]
