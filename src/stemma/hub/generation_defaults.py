"""How a model's authors want it to be used: what ends a text, its sampling, its chat template."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemma.hub.model_directory import CONFIG, GENERATION
from stemma.hub.weight_files import read_json
from stemma.tokenizers import ChatTemplate
from stemma.tokenizers.chat.files import NoTemplateError, find_template
from stemma.tokenizers.formats.gguf_metadata import read_metadata

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_GGUF_ENDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


@dataclass(frozen=True)
class GenerationDefaults:
    """What a model comes with for generating text.

    Attributes:
        end_ids: ids that end a text, or a turn of a conversation.
        sampling: fields of `inference.SamplingConfig` that its authors recommend; may be empty.
        template: writes conversations as the model knows them; None for a base model.
    """

    end_ids: tuple[int, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)
    template: ChatTemplate | None = None


def generation_defaults(place: Path) -> GenerationDefaults:
    """What is known of a model at the place that `find_model` gives.

    A directory has it in ``generation_config.json``, ``config.json`` and its template's files; a
    GGUF file in its metadata; a model of llama2.c has none of it.

    Raises:
        ModelError: if a file of JSON is damaged.
        TokenizerError: if the metadata or the template is.
    """
    if place.is_dir():
        config = read_json(place / CONFIG)
        generation = read_json(place / GENERATION) if (place / GENERATION).is_file() else {}
        ends = _ids(generation.get("eos_token_id", config.get("eos_token_id")))
        return GenerationDefaults(ends, _sampling(generation), _template(place))
    with place.open("rb") as file:
        if file.read(4) != b"GGUF":
            return GenerationDefaults()
    metadata = read_metadata(place, lambda name: name in _GGUF_ENDS)
    ends = tuple(int(metadata[name]) for name in _GGUF_ENDS if name in metadata)
    return GenerationDefaults(tuple(dict.fromkeys(ends)), {}, _template(place))


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(id_ for id_ in values if isinstance(id_, int) and not isinstance(id_, bool))


def _sampling(generation: dict[str, Any]) -> dict[str, Any]:
    """`transformers` draws only where ``do_sample`` is set; 0 and 1 there stand for no rule."""
    if not generation.get("do_sample"):
        return {}
    no_rule = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
    return {
        name: generation[name]
        for name in _SAMPLING
        if generation.get(name) is not None and generation[name] != no_rule.get(name)
    }


def _template(place: Path) -> ChatTemplate | None:
    """The model's template; None if it has none, and an error if what it has is damaged."""
    try:
        found = find_template(place)
    except NoTemplateError:
        return None
    return ChatTemplate(*found)
