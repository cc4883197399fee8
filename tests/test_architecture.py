"""What DESIGN promises about the code itself, held by measurement."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import stemma

ROOT = Path(stemma.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(path.parent for path in ROOT.glob("*/__init__.py"))


def test_imports_only_from_below() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_public_names_are_sorted_and_exist(package: Path) -> None:
    module = import_module(f"stemma.{package.name}")
    names = getattr(module, "__all__", None)
    if names is None:
        return
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None


def lines_of_code(function: ast.FunctionDef) -> int:
    """From the first statement behind the docstring to the last: what has to be understood."""
    documented = ast.get_docstring(function) is not None and len(function.body) > 1
    first = function.body[1 if documented else 0]
    return (function.end_lineno or first.lineno) - first.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_and_no_function_is_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = lines_of_code(node)
            # As in pyproject.toml: what is compiled is written out, and a command is its options.
            written_out = "kernels" in path.parts or path.name == "commands.py"
            most = 60 if written_out else 50
            assert length <= most, f"{node.name} has {length} lines"
            if node.name == "__init__":
                assert len(node.args.args) + len(node.args.kwonlyargs) <= 13, node.lineno


def test_there_is_no_drawer_for_leftovers() -> None:
    names = {path.stem for path in ROOT.rglob("*")}
    assert not names & {"utils", "common", "helpers", "misc"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_module_hides_a_public_name(package: Path) -> None:
    """Importing ``package/name.py`` makes the module an attribute, in place of a lazy ``name``."""
    module = import_module(f"stemma.{package.name}")
    names = module.__all__ if hasattr(module, "__getattr__") else ()
    inside = {path.stem for path in package.glob("*.py")} | {p.name for p in package.glob("*/")}
    assert not inside & set(names)
