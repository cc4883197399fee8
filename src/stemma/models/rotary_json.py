"""Rotary positions in a Hugging Face ``config.json``, in the spellings of all its versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stemma.models.config_json import ConfigJson
from stemma.nn import (
    LinearScalingConfig,
    Llama3ScalingConfig,
    RotaryConfig,
    RotaryScalingConfig,
    YarnScalingConfig,
)


def write_rotary(config: RotaryConfig) -> dict[str, Any]:
    """The keys of ``config.json``, for transformers 5 and for the versions before it."""
    scaled = _written(config.scaling)
    parameters = {"rope_type": "default", **scaled, "rope_theta": config.theta}
    before: dict[str, Any] = {"rope_theta": config.theta}
    if scaled:
        before["rope_scaling"] = parameters
    return {"rope_parameters": parameters, **before}


def read_rotary(read: ConfigJson, default_theta: float = 10_000.0) -> RotaryConfig:
    """The rotary positions that a ``config.json`` asks for.

    Raises:
        ModelError: naming the key that cannot be done here.
    """
    config = RotaryConfig(theta=read.number("rope_theta", default_theta))
    for name in ("rope_scaling", "rope_parameters"):
        table = read.table(name)
        if table is not None:
            found = read_table(table, config.theta, read.integer("max_position_embeddings"))
            config = found if found.scaling else config.replace(theta=found.theta)
    read.must_be("partial_rotary_factor", 1.0)
    return config


def read_table(table: ConfigJson, default_theta: float, context: int) -> RotaryConfig:
    """The rotary positions that a table within a ``config.json`` asks for.

    Args:
        table: as it is.
        default_theta: the base where it names none.
        context: positions of the model.

    Raises:
        ModelError: naming the key that cannot be done here.
    """
    theta = table.number("rope_theta", default_theta)
    table.must_be("partial_rotary_factor", 1.0)
    kind_name = "rope_type" if "rope_type" in table else "type"
    table.pass_over("type")
    kind = table.one_of(kind_name, ["default", *_READERS], "default")
    scaling = None if kind == "default" else _READERS[kind](table, context)
    table.finish()
    return RotaryConfig(theta=theta, scaling=scaling)


def _written(scaling: RotaryScalingConfig | None) -> dict[str, Any]:
    match scaling:
        case LinearScalingConfig():
            return {"rope_type": "linear", "factor": scaling.factor}
        case Llama3ScalingConfig():
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_frequency,
                "high_freq_factor": scaling.high_frequency,
                "original_max_position_embeddings": scaling.original_context,
            }
        case YarnScalingConfig():
            return {
                "rope_type": "yarn",
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original_context,
                "beta_fast": scaling.fast,
                "beta_slow": scaling.slow,
                "attention_factor": scaling.sharpness,
                "truncate": scaling.whole_pairs,
            }
    return {}


def _read_linear(table: ConfigJson, context: int) -> RotaryScalingConfig:
    return LinearScalingConfig(factor=_factor(table))


def _read_llama3(table: ConfigJson, context: int) -> RotaryScalingConfig:
    low, high = table.number("low_freq_factor", 1.0), table.number("high_freq_factor", 4.0)
    if high <= low:
        raise table.refuse("high_freq_factor", high, f"it must be above low_freq_factor = {low}")
    return Llama3ScalingConfig(
        factor=_factor(table),
        original_context=table.integer("original_max_position_embeddings", context),
        low_frequency=low,
        high_frequency=high,
    )


def _read_yarn(table: ConfigJson, context: int) -> RotaryScalingConfig:
    return YarnScalingConfig(
        factor=_factor(table),
        original_context=table.integer("original_max_position_embeddings", context),
        fast=table.number("beta_fast", 32.0),
        slow=table.number("beta_slow", 1.0),
        sharpness=table.optional_number("attention_factor"),
        whole_pairs=table.flag("truncate", True),
    )


def _factor(table: ConfigJson) -> float:
    factor = table.number("factor")
    if factor < 1:
        raise table.refuse("factor", factor, "it must be 1 or more")
    return factor


_READERS: dict[str, Callable[[ConfigJson, int], RotaryScalingConfig]] = {
    "linear": _read_linear,
    "llama3": _read_llama3,
    "yarn": _read_yarn,
}
