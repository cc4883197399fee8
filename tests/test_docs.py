"""The Python of the docs does what it says, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.usefixtures("smollm2")  # skips where it cannot be had
def test_the_page_about_inference(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "inference.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    said: list[str] = []
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
        said.append(capsys.readouterr().out)
    one, many, batch, guessed, beams, small = said
    assert "Paris" in one
    assert "Paris" in beams
    assert "Paris" in small
    assert many.strip()
    assert all(names["tokenizer"].decode(ids) in batch for ids in names["texts"].values())
    assert names["batch"].blocks.n_used == 0
    assert names["batch"].statistics.preemptions == 0  # there were blocks for all
    assert "the dog ate the bone" in guessed
    assert names["statistics"].tokens_per_call > 1
