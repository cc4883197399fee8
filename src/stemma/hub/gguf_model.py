"""Models in GGUF files, the format of llama.cpp: those of Llama's shape, and GPT-2.

Source: the format's specification, ggml-org/ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray

from stemma.errors import ConfigError, ModelError, TokenizerError
from stemma.hub.gguf_names import ARCHITECTURES, READ_AND_WRITTEN, Architecture
from stemma.hub.gguf_weights import GGUFWeights
from stemma.hub.model_directory import filled
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.models.family import expect
from stemma.nn import RotaryConfig
from stemma.tokenizers.formats.gguf_metadata import TensorPlace, read_head

_ROPE_FREQUENCIES = "rope_freqs.weight"
_LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_SCALING = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_HARMLESS = {"rope.scaling.finetuned"}


def load_gguf(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Transformer:
    """Read the model of a GGUF file, tensor by tensor; quantised weights are dequantised.

    Args:
        path: the file.
        dtype: of the parameters; by default float32, as which quantised weights are computed.
        device: where they are put.

    Raises:
        ModelError: if the file cannot be read, is damaged, asks for an architecture, a kind of
            quantisation or a feature that is not known here, or holds other tensors than it
            announces.
    """
    path = Path(path)
    with _blaming_the_metadata(path):
        architecture, config, places = _head(path)
        pairs = {}
        if architecture.pairs:
            attention = config.attention
            n_kv_heads = attention.n_kv_heads or attention.n_heads
            heads = {"attn_q": attention.n_heads, "attn_k": n_kv_heads}
            for name in places:
                for part, n_heads in heads.items():
                    if f".{part}." in name:
                        pairs[name] = n_heads
        kind = dtype or torch.float32
        weights = GGUFWeights(path, places, architecture, pairs, device=device, dtype=kind)
        tensors = FAMILIES[architecture.family].translate(config, weights, copy=False)
        return filled(config, tensors, kind)


def read_gguf_config(path: Path) -> TransformerConfig:
    """What the metadata of a GGUF file say of its model; no tensor is read.

    Raises:
        ModelError: as in `load_gguf`.
    """
    with _blaming_the_metadata(path):
        return _head(path)[1]


@contextmanager
def _blaming_the_metadata(path: Path) -> Iterator[None]:
    """The families know these values by the name of the file in which others keep them."""
    try:
        yield
    except (ConfigError, ModelError, TokenizerError) as error:
        what, cure = (
            (text or "").replace("config.json", "its metadata") for text in (error.what, error.cure)
        )
        raise ModelError(what, where=str(path), cure=cure or None) from None


def _head(path: Path) -> tuple[Architecture, TransformerConfig, dict[str, TensorPlace]]:
    """The architecture, the config, and where the tensors are."""
    entries, found = read_head(path, lambda name: not name.startswith("tokenizer."))
    places = dict(found)
    named = entries.get("general.architecture")
    if named not in ARCHITECTURES:
        raise ModelError(
            f"holds a model of the architecture {named!r}, which is not known here",
            cure=READ_AND_WRITTEN,
        )
    architecture = ARCHITECTURES[named]
    divided = places.pop(_ROPE_FREQUENCIES, None)
    divisors = None if divided is None else _divisors(path, divided)
    config_json = _config_json(entries, places, named)
    if divisors is not None:
        config_json["rope_scaling"] = {"factor": float(divisors.max()), **_LLAMA3}
    config: TransformerConfig = FAMILIES[architecture.family].read_config(config_json)
    if divisors is not None:
        _check_divisors(divisors, config)
    return architecture, config, places


def _config_json(
    entries: Mapping[str, Any], places: Mapping[str, TensorPlace], named: str
) -> dict[str, Any]:
    """What the metadata say, in the words of ``config.json``; nothing is passed over in silence."""
    architecture, prefix = ARCHITECTURES[named], f"{named}."
    given = {
        name.removeprefix(prefix): _plain(value)
        for name, value in entries.items()
        if name.startswith(prefix)
    }
    missing = [prefix + name for name in architecture.needed if name not in given]
    if missing:
        raise ModelError(f"has no {missing[0]} among its metadata")
    words = {**architecture.needed, **architecture.optional}
    known = {*words, "vocab_size", "attention.causal"}
    if "rope.freq_base" in words:
        known |= {*_SCALING, *_HARMLESS, "rope.dimension_count", "attention.value_length"}
    for name, value in given.items():
        if name not in known and value not in (None, 0, 0.0, False, ""):
            raise ModelError(f"{prefix}{name} = {value!r}: what it does is not known here")
    embedding = places.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError("holds no table of embeddings, token_embd.weight")
    found = {words[name]: given[name] for name in words if name in given}
    found["vocab_size"] = embedding.shape[0]
    found["tie_word_embeddings"] = "output.weight" not in places
    if named == "llama":
        found["attention_bias"] = "blk.0.attn_q.bias" in places
        found["mlp_bias"] = "blk.0.ffn_up.bias" in places
    if given.get("rope.scaling.type", "none") != "none":
        found["rope_scaling"] = {_SCALING[name]: given[name] for name in _SCALING if name in given}
    _check(given, found, prefix)
    if named == "qwen2":
        found.pop("head_dim", None)
    return found


def _plain(value: Any) -> Any:
    """A value as it was meant: a file has 1e-05 with a float32's 24 bits."""
    if isinstance(value, float) and math.isfinite(value):
        return float(str(np.float32(value)))
    return value.tolist() if isinstance(value, np.ndarray) else value


def _check(given: Mapping[str, Any], found: Mapping[str, Any], prefix: str) -> None:
    """Insist on what follows from other entries."""
    expected: dict[str, Any] = {"vocab_size": found["vocab_size"], "attention.causal": True}
    d_model, n_heads = found.get("hidden_size"), found.get("num_attention_heads")
    if isinstance(d_model, int) and isinstance(n_heads, int) and n_heads > 0:
        d_head = found.get("head_dim") or d_model // n_heads
        expected |= {"rope.dimension_count": d_head, "attention.value_length": d_head}
    for name, value in expected.items():
        if given.get(name, value) != value:
            raise ModelError(f"{prefix}{name} = {given[name]}: only {value} can be done here")


def _divisors(path: Path, place: TensorPlace) -> NDArray[np.float32]:
    """What each pair's angle is divided by."""
    n = place.shape[0] if len(place.shape) == 1 else 0
    fits = place.kind == GGMLQuantizationType.F32 and place.start + 4 * n <= path.stat().st_size
    if not n or not fits:
        raise ModelError(f"{_ROPE_FREQUENCIES} is damaged")
    return np.fromfile(path, "<f4", count=n, offset=place.start)


def _check_divisors(divisors: NDArray[np.float32], config: TransformerConfig) -> None:
    """Insist on Llama 3.1's scaling: its models differ in the largest divisor alone."""
    position = expect(config.position, RotaryConfig, "position")
    d_head = config.attention.head_size(config.d_model)
    plain = position.theta ** -(torch.arange(0, d_head, 2) / d_head)
    scaled = position.scaling.scale(plain, position.theta) if position.scaling else plain
    expected = (plain / scaled).numpy()
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-3):
        raise ModelError(f"{_ROPE_FREQUENCIES} scales rotary positions in a way not known here")
