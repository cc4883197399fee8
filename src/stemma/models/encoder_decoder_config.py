"""The numbers and parts of an encoder-decoder: two Transformers and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from stemma.config import Config
from stemma.models.initialization import InitConfig
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import AttentionConfig, MLPConfig, NoHeadConfig, SinusoidalPositionsConfig

if TYPE_CHECKING:
    from stemma.models.encoder_decoder import EncoderDecoder


class EncoderDecoderConfig(Config):
    """An encoder that sees the whole source, and a decoder that reads what it made of it."""

    encoder: TransformerConfig
    decoder: TransformerConfig
    share_embeddings: bool = Field(
        default=True, description="one matrix for the tokens of source and target"
    )
    start_id: int = Field(default=0, ge=0, description="the id that every target begins with")

    @model_validator(mode="after")
    def _they_fit(self) -> Self:
        encoder, decoder = self.encoder, self.decoder
        sizes = encoder.vocab_size, decoder.vocab_size
        problems = {
            "encoder.causal = true: an encoder sees the whole source": encoder.causal,
            "encoder.head: its kind must be 'none'": not isinstance(encoder.head, NoHeadConfig),
            "encoder.cross_attention: an encoder has none": encoder.cross_attention is not None,
            "decoder.causal = false: it must be true": not decoder.causal,
            "decoder.cross_attention is missing": decoder.cross_attention is None,
            "decoder.placement = 'sandwich' has no norm behind the third sublayer": (
                decoder.placement == "sandwich"
            ),
            f"d_model = {encoder.d_model} and {decoder.d_model} must be one": (
                encoder.d_model != decoder.d_model
            ),
            f"vocabularies of {sizes[0]} and {sizes[1]} ids cannot share a matrix": (
                self.share_embeddings and sizes[0] != sizes[1]
            ),
            f"start_id = {self.start_id} is outside the vocabulary": self.start_id >= sizes[1],
        }
        for problem, holds in problems.items():
            if holds:
                raise ValueError(problem)
        return self

    @property
    def n_layers(self) -> int:
        """Of both together."""
        return self.encoder.n_layers + self.decoder.n_layers

    def build(self, *, seed: int = 0) -> EncoderDecoder:
        """The model with fresh weights."""
        from stemma.models.encoder_decoder import EncoderDecoder

        return EncoderDecoder(self, seed=seed)


def encoder_decoder(
    common: TransformerConfig, *, n_decoder_layers: int | None = None, start_id: int = 0
) -> EncoderDecoderConfig:
    """An encoder and a decoder of the same parts, which share their embeddings.

    Args:
        common: the decoder without its attention to the encoder, which is as that to itself.
        n_decoder_layers: if they differ from the encoder's.
        start_id: the id that every target begins with.
    """
    n_layers = common.n_layers if n_decoder_layers is None else n_decoder_layers
    encoder = {"causal": False, "head": NoHeadConfig(), "tie_embeddings": False}
    return EncoderDecoderConfig(
        encoder=common.replace(**encoder),
        decoder=common.replace(cross_attention=common.attention, n_layers=n_layers),
        start_id=start_id,
    )


def original(
    *,
    vocab_size: int = 37_000,
    d_model: int = 512,
    n_layers: int = 6,
    n_heads: int = 8,
    d_ff: int = 2048,
    context_length: int = 1024,
    dropout: float = 0.1,
) -> EncoderDecoderConfig:
    """The Transformer of 2017: post-norm, sinusoids, ReLU, one matrix for three uses.

    The defaults are its base model, on English and German. Vaswani et al. 2017, arXiv:1706.03762,
    table 3.
    """
    return encoder_decoder(
        TransformerConfig(
            vocab_size=vocab_size,
            context_length=context_length,
            d_model=d_model,
            n_layers=n_layers,
            attention=AttentionConfig(n_heads=n_heads),
            feedforward=MLPConfig(d_ff=d_ff, activation="relu"),
            position=SinusoidalPositionsConfig(),
            placement="post",
            scale_embeddings=True,
            dropout=dropout,
            init=InitConfig(std="fan_in", embedding_std=d_model**-0.5, residual="plain"),
        )
    )
