"""Recipes: names, files, presets, inheritance, overrides, and messages."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from stemma.config import to_toml
from stemma.errors import ConfigError
from stemma.lab import Recipe, load_recipe, shipped_recipes
from stemma.lab.recipe import settle
from stemma.lab.shelf import recipe_text


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_named_and_described(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert 10 < len(recipe.description) < 90
    assert load_recipe(tomllib.loads(to_toml(recipe))) == recipe
    assert tomllib.loads(recipe_text(name))["name"] == name


def test_a_recipe_extends_another_and_overrides_come_last(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "quickstart"\nname = "mine"\n[model]\nn_layers = 3\nd_model = 128\n',
        encoding="utf-8",
    )
    recipe = load_recipe(path, ["model.n_layers=5", "training.steps=50"])
    assert (recipe.name, recipe.model.n_layers, recipe.model.d_model) == ("mine", 5, 128)
    assert recipe.training.steps == 50
    assert recipe.optimizer == load_recipe("quickstart").optimizer


def test_a_recipe_extends_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "quickstart"\nseed = 7\n', encoding="utf-8")
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nname = "m"\n', encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.seed == 7
    assert recipe.training.seed == 7


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.n_layer=8", ["model.n_layer", "Did you mean 'model.n_layers'?"]),
        ("training.stepz=8", ["training.stepz", "Did you mean 'training.steps'?"]),
        ("optimizer.momentun=0.9", ["optimizer.momentun", "Did you mean 'optimizer.momentum'?"]),
        ("model.n_layers=many", ["model.n_layers = 'many'", "whole number"]),
        ("model.attention.n_heads=7", ["d_model = 256", "n_heads = 7"]),
        ("tokenizer.vocab_size=256", ["tokenizer.vocab_size = 256", "257"]),
        ("data.held_out=1.5", ["data.held_out = 1.5", "less than 1"]),
        ("training.steps=5", ["warmup_steps = 10", "do not fit into 5 steps"]),
        ("evaluation.stride=999", ["evaluation.stride = 999", "context_length = 256"]),
        ("seed=-1", ["seed = -1", "greater than or equal to 0"]),
        ("optimizer.lr=inf", ["optimizer.lr = inf", "finite"]),
        ("name=../evil", ["name = '../evil'"]),
        ("samples.styles.hot.temperature=-1", ["temperature", "-1"]),
    ],
)
def test_messages_name_field_value_and_cure(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("quickstart", [override])
    for part in parts:
        assert part in str(caught.value)


def test_unknown_names_are_answered_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match="quickstart"):
        load_recipe("quikstart")
    with pytest.raises(ConfigError, match="gpt2-small"):
        load_recipe("quickstart", ["model.preset=gpt2-smal"])


def test_gpt2_recipes_have_the_published_sizes() -> None:
    import torch

    from stemma.models import Transformer

    with torch.device("meta"):
        model = Transformer(load_recipe("gpt2-124m").model)
    assert model.n_parameters() == 124_439_808


def test_a_new_seed_reaches_dropout_too() -> None:
    recipe = load_recipe(load_recipe("quickstart"), ["seed=5"])
    assert (recipe.seed, recipe.training.seed) == (5, 5)


def test_what_the_text_settles_is_checked_again() -> None:
    recipe = load_recipe("quickstart", ["schedule.warmup_steps=100", "data.max_epochs=8"])
    with pytest.raises(ConfigError, match="do not fit"):
        settle(recipe, vocab_size=300, n_tokens=20_000)


def test_settling_twice_changes_nothing_and_keeps_the_micro_batch() -> None:
    recipe = load_recipe("quickstart", ["training.micro_batch_size=2", "data.max_epochs=8"])
    once = settle(recipe, vocab_size=300, n_tokens=30_000)
    assert once.model.vocab_size == 300
    assert once.training.batch_size == 4 < recipe.training.batch_size
    assert once.training.micro_batch_size == 2
    assert settle(once, vocab_size=300, n_tokens=30_000) == once


def test_a_recipe_is_a_value() -> None:
    recipe = load_recipe("quickstart")
    assert load_recipe(recipe) == recipe
    assert isinstance(recipe, Recipe)
