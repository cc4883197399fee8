"""A key that a file leaves out means what the class in transformers makes of it, or is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import transformers

from stemma.errors import StemmaError
from stemma.models.config_facts import resolved
from stemma.models.families import FAMILIES

CLASSES = {
    "gpt2": "GPT2Config",
    "openai-gpt": "OpenAIGPTConfig",
    "llama": "LlamaConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "mistral": "MistralConfig",
    "mixtral": "MixtralConfig",
    "qwen3_moe": "Qwen3MoeConfig",
    "gemma3_text": "Gemma3TextConfig",
    "bert": "BertConfig",
    "t5": "T5Config",
    "marian": "MarianConfig",
}


def test_every_family_is_here() -> None:
    assert CLASSES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_each_key_left_out(name: str) -> None:
    family, theirs = FAMILIES[name], getattr(transformers, CLASSES[name])
    whole: dict[str, Any] = {**theirs().to_dict(), "model_type": name}
    family.read_config(whole)
    read = 0
    for key in whole:
        rest = {k: v for k, v in whole.items() if k != key}
        try:
            ours = family.read_config(rest)
        except StemmaError:
            continue
        meant = {**theirs.from_dict(copy.deepcopy(rest)).to_dict(), "model_type": name}
        assert resolved(ours) == resolved(family.read_config(meant)), key
        read += 1
    assert read > 5
