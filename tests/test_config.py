"""The configuration machinery: typed values <-> TOML <-> overrides, and its messages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from stemma.config import (
    Config,
    merge,
    parse_overrides,
    read_toml,
    resolve_extends,
    to_toml,
)
from stemma.errors import ConfigError


class Circle(Config):
    kind: Literal["circle"] = "circle"
    radius: float = Field(1.0, gt=0)


class Box(Config):
    kind: Literal["box"] = "box"
    width: int = 2
    height: int | None = None


class Picture(Config):
    name: str
    shape: Annotated[Circle | Box, Field(discriminator="kind")] = Circle()
    layers: list[Box] = []  # noqa: RUF012 - pydantic copies defaults


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Circle().radius = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nam": "a"}, ["unknown key 'nam'", "Did you mean 'name'?"]),
        (
            {"name": "a", "shape": {"kind": "circle", "radios": 2}},
            ["unknown key 'shape.radios'", "Did you mean 'shape.radius'?"],
        ),
        (
            {"name": "a", "shape": {"kind": "box", "width": "wide"}},
            ["shape.width = 'wide': input should be a whole number"],
        ),
        (
            {"name": "a", "shape": {"kind": "circle", "radius": -1}},
            ["shape.radius = -1", "greater"],
        ),
        ({"name": "a", "shape": {"kind": "star"}}, ["shape", "'circle', 'box'"]),
        ({"name": "a", "layers": [{"widht": 3}]}, ["layers.0.widht", "layers.0.width"]),
        ({"name": "a", "radius": 3}, ["unknown key 'radius'", "Did you mean 'shape.radius'?"]),
        ({}, ["'name' is missing", "Set name."]),
    ],
)
def test_messages_name_field_value_and_cure(values: dict[str, object], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Picture.parse(values, source="my.toml")
    for part in ["my.toml", *expected]:
        assert part in str(caught.value)


def test_replace_validates_again() -> None:
    assert Circle().replace(radius=2).radius == 2
    with pytest.raises(ConfigError, match="radius"):
        Circle().replace(radius=-2)


def test_overrides_are_toml_or_else_text() -> None:
    values = parse_overrides(["a.b=3", "a.c=0.5", "a.d=true", "e=[1, 2]", "f=first-try", "g=x=y"])
    assert values == {
        "a": {"b": 3, "c": 0.5, "d": True},
        "e": [1, 2],
        "f": "first-try",
        "g": "x=y",
    }


@pytest.mark.parametrize("text", ["a", "=3", "a..b=3", ""])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an assignment"):
        parse_overrides([text])


def test_merge_replaces_a_table_of_another_kind_as_a_whole() -> None:
    base = {"shape": {"kind": "circle", "radius": 2}, "name": "a"}
    assert merge(base, {"shape": {"radius": 3}})["shape"] == {"kind": "circle", "radius": 3}
    assert merge(base, {"shape": {"kind": "box", "width": 3}})["shape"] == {
        "kind": "box",
        "width": 3,
    }
    assert base["shape"] == {"kind": "circle", "radius": 2}


_tables = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), _tables))
def test_merge_with_itself_and_with_nothing_changes_nothing(table: dict[str, object]) -> None:
    assert merge(table, table) == table
    assert merge(table, {}) == table
    assert merge({}, table) == table


def test_extends_lays_the_nearer_recipe_over_the_farther() -> None:
    recipes = {
        "grandparent": {"a": 1, "b": 1, "t": {"x": 1, "y": 1}},
        "parent": {"extends": "grandparent", "b": 2, "t": {"y": 2}},
    }
    child = {"extends": "parent", "c": 3}
    assert resolve_extends(child, recipes.__getitem__, source="child") == {
        "a": 1,
        "b": 2,
        "c": 3,
        "t": {"x": 1, "y": 2},
    }


def test_a_circle_of_extends_is_named() -> None:
    recipes = {"a": {"extends": "b"}, "b": {"extends": "a"}}
    with pytest.raises(ConfigError, match="a -> b -> a"):
        resolve_extends({"extends": "a"}, recipes.__getitem__, source="mine.toml")


@given(
    st.builds(
        Picture,
        name=st.text(max_size=8),
        shape=st.builds(Circle, radius=st.floats(0.001, 1e6)) | st.builds(Box),
        layers=st.lists(st.builds(Box, height=st.none() | st.integers(0, 9)), max_size=2),
    )
)
def test_toml_round_trip(picture: Picture) -> None:
    assert Picture.parse(tomllib.loads(to_toml(picture))) == picture


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = ", "not valid TOML"), (b"a = '\xff'", "cannot be read"), (None, "no such recipe")],
)
def test_unreadable_toml(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)
