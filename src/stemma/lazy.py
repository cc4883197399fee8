"""Public names that load on first use, so that what is not asked for costs nothing.

A package writes its imports once, for the type checker, and this file makes the same ones happen
when a name is first asked for::

    if TYPE_CHECKING:
        from stemma.hub.opening import load
    else:
        __getattr__, __dir__ = lazily(__name__, __file__, __all__)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any


def lazily(
    package: str, file: str, public: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        package: its ``__name__``.
        file: its ``__file__``, which holds the imports under ``if TYPE_CHECKING``.
        public: its ``__all__``.
    """

    def load(name: str) -> Any:
        module = _modules(file).get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    return load, lambda: [*public]


@cache
def _modules(file: str) -> dict[str, str]:
    """Name -> the module that it is imported from under ``if TYPE_CHECKING``."""
    import ast
    from pathlib import Path

    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    block = next(
        node.body
        for node in body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.name: str(statement.module)
        for statement in block
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
