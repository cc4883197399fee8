"""A number of layers that no model has is refused by its key, before a list is made of it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import transformers

from stemma.errors import ModelError
from stemma.models.families import FAMILIES
from stemma.models.transformer_config import MOST_LAYERS

KEYS = {
    "gpt2": ("GPT2Config", ["n_layer"]),
    "openai-gpt": ("OpenAIGPTConfig", ["n_layer"]),
    "llama": ("LlamaConfig", ["num_hidden_layers"]),
    "qwen2": ("Qwen2Config", ["num_hidden_layers"]),
    "qwen3": ("Qwen3Config", ["num_hidden_layers"]),
    "mistral": ("MistralConfig", ["num_hidden_layers"]),
    "mixtral": ("MixtralConfig", ["num_hidden_layers"]),
    "qwen3_moe": ("Qwen3MoeConfig", ["num_hidden_layers"]),
    "gemma3_text": ("Gemma3TextConfig", ["num_hidden_layers"]),
    "bert": ("BertConfig", ["num_hidden_layers"]),
    "t5": ("T5Config", ["num_layers", "num_decoder_layers"]),
    "marian": ("MarianConfig", ["encoder_layers", "decoder_layers"]),
}


def of(name: str, **changes: Any) -> dict[str, Any]:
    usual = getattr(transformers, KEYS[name][0])().to_dict()
    usual.pop("layer_types", None)
    return {**usual, "model_type": name, **changes}


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, (_, keys) in KEYS.items() for key in keys]
)
def test_a_number_of_layers_has_a_bound(name: str, key: str) -> None:
    FAMILIES[name].read_config(of(name))
    for n in (MOST_LAYERS + 1, 10**7):
        with pytest.raises(
            ModelError, match=rf"{key} = {n} .*no model has more than 10,000 layers"
        ):
            FAMILIES[name].read_config(of(name, **{key: n}))
    for n in (0, -1, True, "12", 2.0):
        with pytest.raises(ModelError, match=f"{key} = "):
            FAMILIES[name].read_config(of(name, **{key: n}))


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("windows", [{"use_sliding_window": True, "sliding_window": 4}, {}])
def test_no_list_is_made_of_so_many(name: str, windows: dict[str, Any]) -> None:
    """What each layer sees is written out before the rest of the shape is read."""
    said = of(name, num_hidden_layers=10**6, **windows)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="more than 10,000 layers"):
            FAMILIES[name].read_config(said)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20  # a list of them would take 8 MB


def test_every_family_is_here() -> None:
    assert KEYS.keys() == FAMILIES.keys()
