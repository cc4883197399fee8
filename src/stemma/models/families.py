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
    mistral,
    mixtral,
    own,
    qwen2,
    qwen3,
    qwen3_moe,
)
from stemma.models.family import Family
from stemma.models.transformer_config import TransformerConfig

_MODULES = (gpt2, llama, qwen2, qwen3, mistral, mixtral, qwen3_moe, gemma3, gpt1, bert)
FAMILIES: dict[str, Family] = {module.FAMILY.model_type: module.FAMILY for module in _MODULES}


def family_of(config: TransformerConfig) -> Family | None:
    """The family of Hugging Face's that a model of this config belongs to; None if none fits."""
    return next((family for family in FAMILIES.values() if not _objection(family, config)), None)


def family_for(config: TransformerConfig) -> Family:
    """The same, or else our own, which expresses everything (`models.own`)."""
    return family_of(config) or own.FAMILY


def objections(config: TransformerConfig) -> dict[str, str]:
    """Name of a family -> the field that it cannot express, for those that cannot."""
    found = ((name, _objection(family, config)) for name, family in FAMILIES.items())
    return {name: objection for name, objection in found if objection}


def family_named(model_type: Any, *, where: str | None = None) -> Family:
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


def _objection(family: Family, config: TransformerConfig) -> str | None:
    try:
        family.write_config(config)
    except ModelError as error:
        return error.what
    return None
