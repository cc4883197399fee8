"""The checkpoint families: found by what a config needs, and by their names in config.json."""

from __future__ import annotations

from typing import Any

from stemma.errors import ModelError
from stemma.models import (
    bert,
    gemma3,
    gpt1,
    gpt2,
    llama,
    marian,
    mistral,
    mixtral,
    own,
    qwen2,
    qwen3,
    qwen3_moe,
    t5,
)
from stemma.models.config_facts import ModelConfig
from stemma.models.encoder_decoder_config import EncoderDecoderConfig
from stemma.models.family import Family

_MODULES = (gpt2, llama, qwen2, qwen3, mistral, mixtral, qwen3_moe, gemma3, gpt1, bert, t5, marian)
FAMILIES: dict[str, Family[Any]] = {module.FAMILY.model_type: module.FAMILY for module in _MODULES}

_PAIRS = [name for name, family in FAMILIES.items() if family.config_type is EncoderDecoderConfig]


def family_of(config: ModelConfig) -> Family[Any] | None:
    """The family of Hugging Face's that a model of this config belongs to; None if none fits."""
    return next((family for family in FAMILIES.values() if not _objection(family, config)), None)


def family_for(config: ModelConfig) -> Family[Any]:
    """The same, or else our own, which expresses every `Transformer` (`models.own`).

    Raises:
        ModelError: if no family expresses an encoder-decoder, naming for each the field in the way.
    """
    found = family_of(config)
    if found is None and isinstance(config, EncoderDecoderConfig):
        known = {name: what for name, what in objections(config).items() if name in _PAIRS}
        raise ModelError(
            "no family expresses this encoder-decoder: "
            + "; ".join(f"{name} not with {what}" for name, what in known.items()),
            cure="Change one of these fields, or keep the model as a checkpoint of its run.",
        )
    return found or own.FAMILY


def objections(config: ModelConfig) -> dict[str, str]:
    """Name of a family -> the field that it cannot express, for those that cannot."""
    found = ((name, _objection(family, config)) for name, family in FAMILIES.items())
    return {name: objection for name, objection in found if objection}


def family_named(model_type: Any, *, where: str | None = None) -> Family[Any]:
    """The family that ``config.json`` calls ``model_type``.

    Raises:
        ModelError: if it is not known here.
    """
    known = {**FAMILIES, own.FAMILY.model_type: own.FAMILY}
    if not isinstance(model_type, str) or model_type not in known:
        raise ModelError(
            f"model_type = {model_type!r} is not known here",
            where=where,
            cure=f"There is: {', '.join(known)}.",
        )
    return known[model_type]


def _objection(family: Family[Any], config: ModelConfig) -> str | None:
    try:
        family.write_config(config)
    except ModelError as error:
        return error.what
    return None
