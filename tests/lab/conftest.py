"""A run small enough for a test: a few seconds, every stage of a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.lab import RunResult, train

SMALL = [
    "tokenizer.vocab_size=300",
    "model.n_layers=1",
    "model.d_model=32",
    "model.context_length=32",
    "model.attention.n_heads=2",
    "model.feedforward.d_ff=48",
    "training.steps=12",
    "training.batch_size=4",
    "training.evaluate_every=4",
    "training.checkpoint_every=4",
    "training.precision=float32",
    "schedule.warmup_steps=2",
    "evaluation.ngram_order=4",
    "samples.max_new_tokens=8",
]


def verses(n: int = 400) -> str:
    """Text with some structure and no document boundary: numbered lines of a round song."""
    words = ("row", "your", "boat", "gently", "down", "stream", "merrily", "life", "but", "dream")
    lines = []
    for i in range(n):
        lines.append(" ".join(words[(i * k + k) % len(words)] for k in range(1, 8)))
        if i % 5 == 4:
            lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="session")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "song.txt"
    path.write_text(verses(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_settings(song: Path) -> list[str]:
    """Overrides that make the quickstart a matter of seconds."""
    return [*SMALL, f"data.source={song}"]


@pytest.fixture(scope="session")
def small_run(small_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    directory = tmp_path_factory.mktemp("runs") / "small"
    return train("quickstart", directory, overrides=[*small_settings, "name=small"], quiet=True)
