"""The numbers and parts of a Transformer: a point in the space of all that can be built here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stemma.config import Config
from stemma.models.initialization import InitConfig
from stemma.nn import (
    AttentionConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    LinearHeadConfig,
    MLPConfig,
    NoHeadConfig,
    NormConfig,
    Placement,
    PoolerConfig,
    PositionConfig,
    RotaryConfig,
)
from stemma.nn.attention import head_problem
from stemma.nn.position import odd_head

if TYPE_CHECKING:
    from stemma.models.transformer import Transformer


MOST_LAYERS = 10_000
"""More than any model has: a damaged file that announces them is refused before it takes memory."""


class LocalLayersConfig(Config):
    """Layers that see a window of the text only, and which layers these are.

    Beltagy et al. 2020, arXiv:2004.05150; mixed with layers that see everything: Gemma Team 2024,
    arXiv:2408.00118, section 2.
    """

    window: int = Field(ge=1, description="positions that are seen, a position itself included")
    global_every: int | None = Field(
        default=None, ge=1, description="each such layer sees everything; default: none does"
    )
    position: PositionConfig | None = Field(
        default=None, description="positions of these layers; default: those of the others"
    )

    def holds(self, layer: int) -> bool:
        """Whether the layer of this index, from 0, is one of them."""
        return self.global_every is None or (layer + 1) % self.global_every != 0


class TransformerConfig(Config):
    """The numbers and parts of a `Transformer`; the defaults are GPT-2's choices."""

    vocab_size: int = Field(ge=1)
    context_length: int = Field(ge=1, description="the most positions it sees")
    d_model: int = Field(ge=1)
    n_layers: int = Field(ge=0, le=MOST_LAYERS)
    attention: AttentionConfig
    cross_attention: AttentionConfig | None = Field(
        default=None, description="of a decoder to an encoder's output"
    )
    feedforward: FeedForwardConfig = MLPConfig()
    norm: NormConfig = LayerNormConfig()
    position: PositionConfig = LearnedPositionsConfig()
    placement: Placement = "pre"
    causal: bool = Field(default=True, description="whether a position sees only those before")
    local: LocalLayersConfig | None = Field(default=None, description="layers that see a window")
    head: HeadConfig = LinearHeadConfig()
    residual: bool = Field(default=True, description="whether blocks add to their input")
    embedding_stream: bool = Field(
        default=False, description="layers take in the embeddings again (modded-nanogpt)"
    )
    value_stream: bool = Field(
        default=False, description="layers take in the first one's values (ResFormer)"
    )
    tie_embeddings: bool = Field(
        default=True, description="the head's matrix is the token embedding's"
    )
    scale_embeddings: bool = Field(
        default=False, description="tokens' vectors times the root of d_model"
    )
    embedding_norm: bool = Field(default=False, description="norm of the embeddings' sum")
    n_segments: int | None = Field(
        default=None, ge=1, description="parts of a text that have vectors of their own"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="of embeddings and sublayers' outputs"
    )
    init: InitConfig = InitConfig()

    @field_validator("attention", "cross_attention")
    @classmethod
    def _heads_fit(
        cls, attention: AttentionConfig | None, info: ValidationInfo
    ) -> AttentionConfig | None:
        d_model = info.data.get("d_model")
        if (
            attention is not None
            and d_model is not None
            and (
                problem := head_problem(
                    d_model, attention.n_heads, attention.n_kv_heads, attention.d_head
                )
            )
        ):
            raise ValueError(problem)
        return attention

    @field_validator("position")
    @classmethod
    def _heads_can_turn(cls, position: Any, info: ValidationInfo) -> Any:
        attention, d_model = info.data.get("attention"), info.data.get("d_model")
        if isinstance(position, RotaryConfig) and attention is not None and d_model is not None:
            d_head = attention.rotary_size(d_model)
            if d_head % 2:
                raise ValueError(odd_head(d_head))
        return position

    @model_validator(mode="after")
    def _latents_stay_where_they_are(self) -> TransformerConfig:
        if self.attention.latent and self.value_stream:
            raise ValueError("value_stream and attention.latent: latents are kept, no values")
        if self.cross_attention and self.cross_attention.latent:
            raise ValueError("cross_attention.latent: leave it out, only self-attention has it")
        return self

    @model_validator(mode="after")
    def _nothing_tied_to_no_head(self) -> TransformerConfig:
        if self.tie_embeddings and isinstance(self.head, NoHeadConfig | PoolerConfig):
            raise ValueError(
                f"head.kind = {self.head.kind!r} has no matrix to tie: set tie_embeddings = false"
            )
        return self

    def build(self, *, seed: int = 0) -> Transformer:
        """The model with fresh weights."""
        from stemma.models.transformer import Transformer

        return Transformer(self, seed=seed)
