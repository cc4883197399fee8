"""The checkpoint families: found by what a config needs, and by their names in config.json."""

from __future__ import annotations

from typing import Any

from stemma.errors import ModelError
from stemma.models import bert, gemma3, gpt1, gpt2, llama, mistral, qwen2, qwen3
from stemma.models.family import Family
from stemma.models.transformer_config import TransformerConfig

_MODULES = (gpt2, llama, qwen2, qwen3, mistral, gemma3, gpt1, bert)
FAMILIES: dict[str, Family] = {module.FAMILY.model_type: module.FAMILY for module in _MODULES}


def family_of(config: TransformerConfig) -> Family | None:
    """The family that a model of this config belongs to; None if there is none."""
    return next((family for family in FAMILIES.values() if not _objection(family, config)), None)


def family_for(config: TransformerConfig) -> Family:
    """The same, or an error.

    Raises:
        ModelError: naming for each family the field that it cannot express.
    """
    family = family_of(config)
    if family is None:
        objections = {name: _objection(each, config) for name, each in FAMILIES.items()}
        raise ModelError(
            "no family that Hugging Face knows can express this model: "
            + "; ".join(f"{name} not with {what}" for name, what in objections.items()),
            cure="Change one of these fields, or keep the model as a checkpoint of its run.",
        )
    return family


def family_named(model_type: Any, *, where: str | None = None) -> Family:
    """The family that ``config.json`` calls ``model_type``.

    Raises:
        ModelError: if it is not known here.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ModelError(
            f"model_type = {model_type!r} is not known here",
            where=where,
            cure=f"There is: {', '.join(FAMILIES)}.",
        )
    return FAMILIES[model_type]


def _objection(family: Family, config: TransformerConfig) -> str | None:
    try:
        family.write_config(config)
    except ModelError as error:
        return error.what
    return None
