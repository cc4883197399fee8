"""Fill the pages with what the program itself says, so that they cannot go stale.

- `<!-- help: stemma quickstart -->` becomes the output of `stemma quickstart --help`;
- `<!-- recipe: quickstart -->` the shipped recipe;
- `<!-- run: stemma tokenizer show "Hi" -->` the command and its output;
- `<!-- code: stemma.tokenizers.bpe.merge merge_word -->` the function as it stands
  (`Class.method` as well).
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

MARKER = re.compile(r"<!-- (help|recipe|run|code): (.+?) -->")


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
    module, name = what.split()
    source = inspect.getsource(attrgetter(name)(import_module(module)))
    return f"```python\n{dedent(source).strip()}\n```"


def _stemma(*arguments: str) -> str:
    plain = {**os.environ, "COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "stemma", *arguments]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
