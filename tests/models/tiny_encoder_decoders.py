"""T5 and Marian in small: for each a fixed config, and configs at random."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from stemma.models import EncoderDecoderConfig, TransformerConfig
from stemma.models.encoder_decoder_config import encoder_decoder


def t5(*, first: bool = True, gated: bool | None = None, **changes: Any) -> EncoderDecoderConfig:
    gated = not first if gated is None else gated
    shape = {"kind": "gated"} if gated else {"kind": "mlp", "bias": False}
    activation = changes.pop("activation", "gelu_tanh" if gated else "relu")
    n_decoder_layers = changes.pop("n_decoder_layers", None)
    values = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": {"n_heads": 2, "d_head": 6, "bias": False, "scale": 1.0},
        "feedforward": {**shape, "d_ff": 12, "activation": activation},
        "norm": {"kind": "rms_norm"},
        "position": {"kind": "relative_buckets", "n_buckets": 8, "max_distance": 6},
        "head": {"kind": "linear", "scaled": first},
        "tie_embeddings": first,
        **changes,
    }
    return encoder_decoder(TransformerConfig.parse(values), n_decoder_layers=n_decoder_layers)


def marian(**changes: Any) -> EncoderDecoderConfig:
    values = {
        "vocab_size": 23,
        "context_length": 9,
        "d_model": 8,
        "n_layers": 2,
        "attention": {"n_heads": 2},
        "feedforward": {"kind": "mlp", "d_ff": 12, "activation": "silu"},
        "position": {"kind": "sinusoidal", "halves": True},
        "placement": "post",
        "head": {"kind": "linear", "bias": True},
        "scale_embeddings": True,
        **changes,
    }
    start_id = values.pop("start_id", 0)
    n_decoder_layers = values.pop("n_decoder_layers", None)
    common = TransformerConfig.parse(values)
    return encoder_decoder(common, n_decoder_layers=n_decoder_layers, start_id=start_id)


@st.composite
def t5s(draw: st.DrawFn) -> EncoderDecoderConfig:
    n_heads = draw(st.integers(1, 3))
    gated = draw(st.booleans())
    names = ["relu", "silu", "gelu_tanh"] if gated else ["relu", "silu", "gelu", "gelu_tanh"]
    buckets = draw(st.sampled_from([4, 8, 32]))
    return t5(
        first=draw(st.booleans()),
        gated=gated,
        activation=draw(st.sampled_from(names)),
        vocab_size=draw(st.integers(2, 40)),
        d_model=draw(st.integers(1, 12)),
        n_layers=draw(st.integers(1, 2)),
        n_decoder_layers=draw(st.integers(1, 2)),
        attention={
            "n_heads": n_heads,
            "d_head": draw(st.sampled_from([1, 4, 6])),
            "bias": False,
            "scale": 1.0,
        },
        norm={"kind": "rms_norm", "eps": draw(st.sampled_from([1e-6, 1e-3]))},
        position={
            "kind": "relative_buckets",
            "n_buckets": buckets,
            "max_distance": buckets + draw(st.integers(1, 9)),
        },
    )


@st.composite
def marians(draw: st.DrawFn) -> EncoderDecoderConfig:
    n_heads = draw(st.integers(1, 3))
    vocab_size = draw(st.integers(2, 40))
    config = marian(
        vocab_size=vocab_size,
        d_model=2 * n_heads * draw(st.integers(1, 4)),
        n_layers=draw(st.integers(1, 2)),
        n_decoder_layers=draw(st.integers(1, 2)),
        attention={"n_heads": n_heads},
        feedforward={
            "kind": "mlp",
            "d_ff": draw(st.integers(1, 20)),
            "activation": draw(st.sampled_from(["relu", "silu", "gelu"])),
        },
        scale_embeddings=draw(st.booleans()),
        start_id=draw(st.integers(0, vocab_size - 1)),
    )
    if draw(st.booleans()):
        return config
    decoder = config.decoder.replace(vocab_size=vocab_size + 3)
    return config.replace(share_embeddings=False, decoder=decoder.model_dump())
