"""What a model is, without its weights: from the name of an architecture, or from its files."""

from __future__ import annotations

from pathlib import Path

from stemma.errors import ModelError
from stemma.hub.catalog import catalog, nearest
from stemma.hub.huggingface import repository
from stemma.hub.model_directory import CONFIG
from stemma.hub.opening import GGUF, find_model, of_the_hub, unknown_model
from stemma.hub.weight_files import read_json
from stemma.models import PRESETS, TransformerConfig, preset
from stemma.models.families import FAMILIES, family_named


def read_config(path_or_name: str | Path) -> TransformerConfig:
    """The config of a model, whose weights are neither read nor, where it can be helped, fetched.

    Args:
        path_or_name: what `load` opens, or the name of an architecture (`models.PRESETS`). Of a
            repository of the Hub only ``config.json`` is fetched. What exists as a path is a path.

    Raises:
        ModelError: if there is no such model, or it is of a kind that is not known here.
    """
    name = str(path_or_name)
    exists = Path(name).expanduser().exists()
    if not exists and name in PRESETS:
        return preset(name)
    named = None if exists else repository(name)
    if not exists and not named and name not in catalog() and len(Path(name).parts) == 1:
        error = unknown_model(name, nearest(name, PRESETS))
        raise ModelError(
            error.what, cure=f"{error.cure} Architectures without weights: {', '.join(PRESETS)}."
        )
    place = of_the_hub(*named, (CONFIG,)) if named else find_model(path_or_name)
    if place.is_dir():
        config_json = read_json(place / CONFIG)
        family = family_named(config_json.get("model_type"), where=str(place / CONFIG))
        return _of_one_stack(family.read_config(config_json), name)
    if place.suffix.lower() == GGUF:
        from stemma.hub.gguf_model import read_gguf_config

        return read_gguf_config(place)
    from stemma.hub.llama2c_model import read_header

    return _of_one_stack(FAMILIES["llama"].read_config(read_header(place).config_json()), name)


def _of_one_stack(config: object, name: str) -> TransformerConfig:
    if not isinstance(config, TransformerConfig):
        raise ModelError(f"{name} is an encoder and a decoder, and only one stack can be described")
    return config
