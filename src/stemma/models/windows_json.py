"""Which layers see a window, in a Hugging Face ``config.json``."""

from __future__ import annotations

from typing import Any

from stemma.models.config_json import ConfigJson
from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig
from stemma.nn import PositionConfig

_FULL, _SLIDING = "full_attention", "sliding_attention"


def write_layer_types(config: TransformerConfig) -> list[str]:
    """What each layer sees, in their words."""
    local = config.local
    return [_SLIDING if local and local.holds(i) else _FULL for i in range(config.n_layers)]


def write_windows(config: TransformerConfig) -> dict[str, Any]:
    """The keys by which Qwen's files speak of windows."""
    if config.local is None:
        window = {"sliding_window": None, "max_window_layers": config.n_layers}
        return {"use_sliding_window": False, **window}
    window = {"sliding_window": config.local.window, "max_window_layers": 0}
    return {"use_sliding_window": True, **window, "layer_types": write_layer_types(config)}


def read_windows(read: ConfigJson) -> LocalLayersConfig | None:
    """The windows that Qwen's files ask for.

    Raises:
        ModelError: naming the key that cannot be done here.
    """
    n_layers = read.layers("num_hidden_layers")
    if not read.flag("use_sliding_window", False):
        read.pass_over("sliding_window", "max_window_layers")
        read.must_be("layer_types", [_FULL] * n_layers)
        return None
    first = read.whole("max_window_layers", 28)
    by_depth = [_FULL if i < first else _SLIDING for i in range(n_layers)]
    return read_local(read, read.words("layer_types", by_depth))


def read_local(
    read: ConfigJson, types: list[str], position: PositionConfig | None = None
) -> LocalLayersConfig | None:
    """The layers that have a window, if there are any.

    Args:
        read: ``config.json``, with ``sliding_window``.
        types: what each layer sees.
        position: of the layers with a window.

    Raises:
        ModelError: if the layers that see everything are not every n-th.
    """
    n_layers = read.layers("num_hidden_layers")
    if len(types) != n_layers or not {_FULL, _SLIDING}.issuperset(types):
        why = f"it must be {_FULL} or {_SLIDING} for each of {n_layers} layers"
        raise read.refuse("layer_types", types, why)
    if _SLIDING not in types:
        read.pass_over("sliding_window")
        return None
    every = types.index(_FULL) + 1 if _FULL in types else None
    local = LocalLayersConfig(
        window=read.integer("sliding_window"), global_every=every, position=position
    )
    if types != [_SLIDING if local.holds(i) else _FULL for i in range(n_layers)]:
        raise read.refuse("layer_types", types, f"only every n-th layer can be {_FULL} here")
    return local
