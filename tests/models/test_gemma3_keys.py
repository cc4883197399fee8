"""Keys of Gemma 3's older files: the base of its windows' rotation, and where windows end."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from stemma.errors import ModelError
from stemma.models import TransformerConfig
from stemma.models.families import FAMILIES
from stemma.nn import RotaryConfig

GEMMA = FAMILIES["gemma3_text"]
OLD: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 23,
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "intermediate_size": 12,
    "query_pre_attn_scalar": 4,
    "sliding_window": 5,
}


def thetas(config: TransformerConfig) -> tuple[float, float]:
    """Of the layers that see everything, and of the others."""
    assert isinstance(config.position, RotaryConfig)
    assert config.local is not None
    assert isinstance(config.local.position, RotaryConfig)
    return config.position.theta, config.local.position.theta


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"rope_local_base_freq": 300.0},
        {"rope_theta": 5000.0},
        {"rope_theta": 5000.0, "rope_local_base_freq": 300.0},
    ],
)
def test_bases_without_tables_are_what_transformers_makes_of_them(said: dict[str, float]) -> None:
    found = thetas(GEMMA.read_config({**OLD, **said}))
    assert found == (said.get("rope_theta", 1e6), said.get("rope_local_base_freq", 1e4))
    theirs = transformers.Gemma3TextConfig(**OLD, **said).rope_parameters
    names = ("full_attention", "sliding_attention")
    assert found == tuple(theirs[name]["rope_theta"] for name in names)


def test_the_base_of_windows_is_written_for_older_readers() -> None:
    config = GEMMA.read_config({**OLD, "rope_local_base_freq": 300.0})
    written, _ = GEMMA.to_huggingface(config, config.build().state_dict())
    assert written["rope_local_base_freq"] == 300.0
    assert written["rope_parameters"]["sliding_attention"]["rope_theta"] == 300.0
    older = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert thetas(GEMMA.read_config(older)) == (1e6, 300.0)
    assert GEMMA.read_config(written) == config


def sees_all(config: TransformerConfig) -> list[int]:
    assert config.local is not None
    return [i for i in range(config.n_layers) if not config.local.holds(i)]


def test_how_far_apart_the_layers_are_that_see_everything() -> None:
    """Every sixth if nothing is said; the other spelling of the key must agree."""
    for said, whole in (
        ({}, [5]),
        ({"_sliding_window_pattern": 6}, [5]),
        ({"sliding_window_pattern": 2}, [1, 3, 5]),
        ({"sliding_window_pattern": 3, "_sliding_window_pattern": 3}, [2, 5]),
    ):
        assert sees_all(GEMMA.read_config({**OLD, **said})) == whole
    theirs = transformers.Gemma3TextConfig(**OLD, sliding_window_pattern=2).layer_types
    assert [i for i, kind in enumerate(theirs) if kind == "full_attention"] == [1, 3, 5]
    for said in (
        {"_sliding_window_pattern": 3},
        {"sliding_window_pattern": 3, "_sliding_window_pattern": 6},
    ):
        with pytest.raises(ModelError, match="_sliding_window_pattern"):
            GEMMA.read_config({**OLD, **said})
