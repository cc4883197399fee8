"""Names that load on first use are those that the type checker sees."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import stemma
from stemma.lazy import lazily

PACKAGES = [
    "stemma",
    *(f"stemma.{name}" for name in ("tokenizers", "data", "hub", "evaluation", "inference", "lab")),
    "stemma.inference.engine",
]
BY_ITSELF = {"stemma": {"__version__"}, "stemma.tokenizers": {"gpt2"}}


def test_every_lazy_package_is_here() -> None:
    files = Path(stemma.__file__).parent.rglob("__init__.py")
    lazy = [path for path in files if "lazily(" in path.read_text(encoding="utf-8")]
    assert len(lazy) == len(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_the_imported_ones(name: str) -> None:
    package = import_module(name)
    for public in package.__all__:
        assert getattr(package, public) is not None
        if public not in BY_ITSELF.get(name, ()):
            assert public not in vars(package)
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def test_the_first_use_imports_and_nothing_else_does(tmp_path: Path) -> None:
    file = tmp_path / "__init__.py"
    file.write_text(
        "import json\n"
        "if TYPE_CHECKING:\n"
        "    from colorsys import (\n        hls_to_rgb,\n        rgb_to_hls,\n    )\n"
        "if True:\n    from nowhere import nothing\n"
    )
    load, names = lazily("colours", str(file), ("rgb_to_hls", "hls_to_rgb"))
    assert names() == ["rgb_to_hls", "hls_to_rgb"]
    assert load("hls_to_rgb")(0, 0.5, 0) == (0.5, 0.5, 0.5)
    for name in ("json", "nothing"):
        with pytest.raises(AttributeError, match=f"'colours' has no attribute '{name}'"):
            load(name)


def test_no_package_reads_itself_before_a_name_is_asked_for() -> None:
    code = "import sys, stemma, stemma.inference; print({'ast', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
