"""How a model begins and ends its texts and how it chats: what stands beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemma.errors import ModelError, TokenizerError
from stemma.hub.weight_files import read_json
from stemma.tokenizers import ChatTemplate, Tokenizer
from stemma.tokenizers.formats.gguf_metadata import read_metadata

_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_FILES = ("generation_config.json", "config.json")
# The end of a text, of a turn and of a message: each ends an answer.
_GGUF = {
    "bos_token_id": ("bos",),
    "eos_token_id": ("eos", "eot", "eom"),
    "pad_token_id": ("padding",),
}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_NO_RULE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
_LLAMA2C = {"bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Manners:
    """What a model was trained to do around its texts.

    Attributes:
        bos: the id that begins a text, if one does.
        eos: the ids that end one; the first is the usual one.
        pad: the id that stands for nothing in a batch.
        chat_template: how conversations are written, in Jinja; None for a model that does not chat.
        generation: other defaults of `transformers`' ``generate``, by its names.
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    chat_template: str | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)

    def ids(self) -> dict[str, Any]:
        """The tokens in the words of ``config.json``; those that there are."""
        eos = self.eos[0] if len(self.eos) == 1 else list(self.eos) or None
        values = dict(zip(_ENDS, (self.bos, eos, self.pad), strict=True))
        return {name: value for name, value in values.items() if value is not None}

    def sampling(self) -> dict[str, Any]:
        """Fields of `inference.SamplingConfig` that its authors recommend; may be empty.

        `transformers` draws only where ``do_sample`` is set, and some numbers stand for no rule.
        """
        said = self.generation if self.generation.get("do_sample") else {}
        return {
            name: said[name]
            for name in _SAMPLING
            if said.get(name) is not None and said[name] != _NO_RULE.get(name)
        }


def without_template(tokenizer: Tokenizer) -> Manners:
    """Those of a model whose texts the tokenizer's end-of-text token begins and ends."""
    end = tokenizer.end_of_text
    others = sorted(tokenizer.end_ids - {end})
    return Manners(bos=end, eos=(*others, *(() if end is None else (end,))), pad=end)


def read_manners(place: Path, tokenizer: Tokenizer) -> Manners:
    """What a model directory, a GGUF file or a ``.bin`` of llama2.c says of its manners.

    Ids that the tokenizer does not have are passed over; where nothing is said, its end-of-text
    token begins and ends a text.

    Raises:
        ModelError: if a file cannot be read.
        TokenizerError: if a chat template is damaged.
    """
    said, generation = _said(place)
    bos, eos, pad = (_ids(said.get(name), tokenizer) for name in _ENDS)
    end = without_template(tokenizer).eos
    bos, eos = bos or end, eos or end
    return Manners(
        bos=bos[0] if bos else None,
        eos=eos,
        pad=pad[0] if pad else eos[0] if eos else None,
        chat_template=_chat_template(place),
        generation={
            k: v for k, v in generation.items() if k not in _ENDS and not k.startswith("_")
        },
    )


def read_end_ids(place: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end a text by the files of a model, those that the tokenizer has.

    Raises:
        ModelError: if a file cannot be read.
    """
    return _ids(_said(place)[0].get(_ENDS[1]), tokenizer)


def _said(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tokens that begin and end texts, and ``generation_config.json``."""
    if place.is_dir():
        found = [place / name for name in reversed(_FILES) if (place / name).is_file()]
        said = {key: value for file in found for key, value in read_json(file).items()}
        file = place / _FILES[0]
        return said, read_json(file) if file.is_file() else {}
    if place.suffix.lower() == ".gguf":
        return _of_gguf(place), {}
    return dict(_LLAMA2C), {}


def _of_gguf(place: Path) -> dict[str, Any]:
    named = {name: f"tokenizer.ggml.{name}_token_id" for names in _GGUF.values() for name in names}
    try:
        values = read_metadata(place, lambda name: name in named.values())
    except TokenizerError as error:
        raise ModelError(error.what, where=str(place), cure=error.cure) from None
    said = {name: [values.get(named[theirs]) for theirs in all_] for name, all_ in _GGUF.items()}
    return {name: list(dict.fromkeys(ids)) for name, ids in said.items()}


def _ids(value: Any, tokenizer: Tokenizer) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(i for i in values if type(i) is int and 0 <= i < tokenizer.vocab_size)


def _chat_template(place: Path) -> str | None:
    if place.is_file() and place.suffix.lower() != ".gguf":
        return None
    try:
        return ChatTemplate.from_file(place).source
    except TokenizerError as error:
        if "there is no chat template" in error.what:
            return None
        raise
