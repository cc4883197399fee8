"""Typed configuration <-> TOML recipe <-> command-line override.

Every part that can be configured has a frozen `Config` beside it. This module turns text into such
configs and back; it knows no part by name.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from stemma.errors import ConfigError, reason

_MOST_PATHS = 2000


class Config(BaseModel):
    """Base of all configurations: frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "configuration") -> Self:
        """Validate ``values`` and return the config.

        Args:
            values: nested plain values, as TOML gives them.
            source: what the values came from, for the error message.

        Raises:
            ConfigError: naming each field by its dotted path, the value and the cure.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error, cls, source) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return self.parse({**self.model_dump(), **changes}, source=type(self).__name__)


def _explain(error: ValidationError, root: type[BaseModel], source: str) -> ConfigError:
    lines, cures = [], []
    for problem in error.errors():
        path = _field_path(problem["loc"], root)
        dotted = ".".join(path) or "(the whole)"
        value = problem.get("input")
        match problem["type"]:
            case "extra_forbidden":
                lines.append(f"unknown key {dotted!r}")
                names = _names_beside(path, root)
                close = difflib.get_close_matches(path[-1], names, n=1)
                meant = [p for p in _all_paths(root) if p.rpartition(".")[2] == path[-1]]
                meant += [".".join([*path[:-1], name]) for name in close]
                cures.append(
                    f"Did you mean {meant[0]!r}?"
                    if meant
                    else f"The keys here are: {', '.join(sorted(names))}."
                )
            case "missing":
                lines.append(f"{dotted!r} is missing")
                cures.append(f"Set {dotted}.")
            case _:
                message = _in_plain_words(problem["msg"])
                shown = "" if isinstance(value, Mapping) else f" = {value!r}"
                lines.append(f"{dotted}{shown}: {message[:1].lower()}{message[1:]}")
    return ConfigError("; ".join(lines), where=source, cure=" ".join(cures) or None)


def _in_plain_words(message: str) -> str:
    """What pydantic says, without the words of its own kind."""
    plain = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    return plain.replace("a valid integer", "a whole number").replace("a valid ", "a ")


def _field_path(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """The dotted path as a user wrote it: pydantic also lists the tag of each union it entered."""
    path: list[str] = []
    models: list[type[BaseModel]] = [root]
    for part in location:
        tagged = [model for model in models if _tag(model) == part]
        if tagged and not _fields(models, str(part)):
            models = tagged
        else:
            path.append(str(part))
            models = _models_under(models, str(part))
    return path


def _names_beside(path: list[str], root: type[BaseModel]) -> list[str]:
    models: list[type[BaseModel]] = [root]
    for part in path[:-1]:
        models = _models_under(models, part)
    return sorted({name for model in models for name in model.model_fields})


def _models_under(models: list[type[BaseModel]], part: str) -> list[type[BaseModel]]:
    """The models that a key leads to; an index or a free key of a container leads to its items."""
    fields = _fields(models, part)
    return [inner for field in fields for inner in _models_in(field)] if fields else models


def _fields(models: list[type[BaseModel]], part: str) -> list[FieldInfo]:
    return [model.model_fields[part] for model in models if part in model.model_fields]


def _all_paths(root: type[BaseModel]) -> list[str]:
    """Every key there is below a model, dotted, the shallow ones first."""
    found: list[str] = []
    level: list[tuple[str, type[BaseModel]]] = [("", root)]
    while level and len(found) < _MOST_PATHS:
        below = []
        for prefix, model in level:
            for name, field in model.model_fields.items():
                found.append(prefix + name)
                below += [(f"{prefix}{name}.", inner) for inner in _models_in(field)]
        level = below
    return found


def _tag(model: type[BaseModel]) -> Any:
    kind = model.model_fields.get("kind")
    return kind.default if kind is not None else None


def _models_in(field: FieldInfo) -> list[type[BaseModel]]:
    def walk(annotation: Any) -> Iterable[type[BaseModel]]:
        origin = get_origin(annotation)
        if origin is Annotated:
            yield from walk(get_args(annotation)[0])
        elif origin in (Union, UnionType, list, tuple, dict):
            for argument in get_args(annotation):
                yield from walk(argument)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation

    return list(walk(field.annotation))


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigError: if it is missing, not UTF-8 or not TOML; the message holds line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "no such recipe", where=str(path), cure="`stemma recipes` lists the shipped ones."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {reason(error)}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``over`` on ``base``, table by table.

    A table whose ``kind`` differs from that of the base replaces it as a whole: the keys of one
    kind mean nothing to another.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            merged[key] = merge(old, value) if same_kind else value
    return merged


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["model.n_layers=8", ...]`` into nested values.

    The right-hand side is TOML (``8``, ``0.1``, ``true``, ``[1, 2]``); what is not TOML is a
    string, so that ``--set name=first-try`` needs no quotes.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = [part.strip() for part in key.split(".")]
        if not equals or not all(path):
            raise ConfigError(
                f"{assignment!r} is not an assignment",
                where="--set",
                cure="Write it as --set table.key=value, e.g. --set model.n_layers=8.",
            )
        nested: dict[str, Any] = {path[-1]: _toml_value(text.strip())}
        for part in reversed(path[:-1]):
            nested = {part: nested}
        values = merge(values, nested)
    return values


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def resolve_extends(
    values: Mapping[str, Any], find: Callable[[str], Mapping[str, Any]], *, source: str
) -> dict[str, Any]:
    """Follow ``extends = "name"`` to the root and merge downwards.

    Args:
        values: the recipe as written.
        find: gives the values of a recipe by the name in ``extends``.
        source: where ``values`` came from, for the error message.

    Raises:
        ConfigError: if the chain comes back to a recipe it already holds.
    """
    chain = [dict(values)]
    seen: list[str] = []
    while isinstance(name := chain[-1].pop("extends", None), str):
        if name in seen:
            circle = " -> ".join([*seen, name])
            raise ConfigError(f"extends goes round in a circle: {circle}", where=source)
        seen.append(name)
        chain.append(dict(find(name)))
    resolved: dict[str, Any] = {}
    for layer in reversed(chain):
        resolved = merge(resolved, layer)
    return resolved


def to_toml(config: BaseModel) -> str:
    """Write a config as TOML; fields that are None are left out, since TOML has no null."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
