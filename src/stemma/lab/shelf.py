"""The recipes that the package ships, as files: found and read without building anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import stemma
from stemma.config import read_toml
from stemma.errors import ConfigError

_FOLDER = Path(stemma.__file__).parent / "recipes"


def shipped_recipes() -> dict[str, str]:
    """Name -> description, sorted by name."""
    return {
        path.stem: str(read_toml(path).get("description", ""))
        for path in sorted(_FOLDER.glob("*.toml"))
    }


def find_recipe(name: str | Path, folder: Path = Path()) -> Path:
    """The file of a shipped name, or of a path relative to ``folder``.

    Raises:
        ConfigError: if there is neither.
    """
    if Path(name).suffix == ".toml":
        return folder / name
    shipped = _FOLDER / f"{name}.toml"
    if not shipped.exists():
        known = ", ".join(shipped_recipes())
        raise ConfigError(
            f"no recipe is called {str(name)!r}",
            cure=f"Shipped are: {known}. A recipe of your own is a path that ends in .toml.",
        )
    return shipped


def read_recipe(name: str | Path, folder: Path = Path()) -> tuple[dict[str, Any], Path]:
    """The values of a recipe as written, and the file they stand in."""
    path = find_recipe(name, folder)
    return read_toml(path), path


def recipe_text(name: str | Path) -> str:
    """A recipe's file, comments and all."""
    path = find_recipe(name)
    read_toml(path)
    return path.read_text(encoding="utf-8")
