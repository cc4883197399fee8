"""Fill the pages with what the program itself says, so that they cannot go stale.

- `<!-- help: stemma quickstart -->` becomes the output of `stemma quickstart --help`;
- `<!-- recipe: quickstart -->` the shipped recipe;
- `<!-- run: stemma tokenizer show "Hi" -->` the command and its output;
- `<!-- code: stemma.tokenizers.bpe.merge merge_word -->` the function as it stands
  (`Class.method` as well);
- `<!-- parts: stemma.nn LayerNorm RMSNorm -->` a table of what they are and the papers they name;
- `<!-- presets: all -->` a table of the named architectures.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from textwrap import dedent
from typing import Any

MARKER = re.compile(r"<!-- (help|recipe|run|code|parts|presets): (.+?) -->")
PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each marker of a page."""
    return MARKER.sub(lambda marker: _block(marker[1], marker[2]), markdown)


def _block(kind: str, what: str) -> str:
    if kind == "help":
        return f"```text\n{_stemma(*what.split()[1:], '--help')}\n```"
    if kind == "recipe":
        return f"```toml\n{_stemma('recipes', 'show', what)}\n```"
    if kind == "run":
        return f"```console\n$ {what}\n{_stemma(*shlex.split(what)[1:])}\n```"
    if kind == "parts":
        return _parts(*what.split())
    if kind == "presets":
        return _presets()
    module, name = what.split()
    source = inspect.getsource(attrgetter(name)(import_module(module)))
    return f"```python\n{dedent(source).strip()}\n```"


def _stemma(*arguments: str) -> str:
    plain = {**os.environ, "COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "stemma", *arguments]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def _parts(module: str, *names: str) -> str:
    rows = ["| part | what it is | papers |", "|---|---|---|"]
    for name in names:
        about = inspect.getdoc(attrgetter(name)(import_module(module))) or ""
        first = about.split("\n\n")[0].replace("\n", " ")
        first = re.sub(r":math:`(.+?)`", lambda math: f"`{_plain(math[1])}`", first)
        first = first.replace("|", "\\|")
        papers = ", ".join(
            f"[{paper}](https://arxiv.org/abs/{paper})"
            for paper in dict.fromkeys(PAPER.findall(about))
        )
        rows.append(f"| `{name}` | {first} | {papers} |")
    return "\n".join(rows)


def _plain(formula: str) -> str:
    """A formula of a docstring without the commands that a table cannot typeset."""
    formula = re.sub(r"\\mathrm\{(\w+)\}", r"\1", formula)
    formula = re.sub(r"\\sqrt\{(.+?)\}(?=\W|$)", r"√(\1)", formula)
    for command, sign in {"\\odot": "⊙", "\\,": " ", "\\tanh": "tanh", "_{head}": "_head"}.items():
        formula = formula.replace(command, sign)
    return re.sub(r" +", " ", formula)


def _presets() -> str:
    import torch

    from stemma.models import PRESETS
    from stemma.models.families import family_for

    rows = ["| preset | `model_type` | parameters | context |", "|---|---|---|---|"]
    for name, make in PRESETS.items():
        config = make()
        with torch.device("meta"):
            count = config.build().n_parameters()
        family = family_for(config).model_type
        rows.append(f"| `{name}` | {family} | {count:,} | {config.context_length:,} |")
    return "\n".join(rows)
