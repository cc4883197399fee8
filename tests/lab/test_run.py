"""A recipe becomes a run: everything it leaves behind, and how it goes on after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import stemma
from stemma.errors import CheckpointError, ConfigError, DataError, TokenizerError
from stemma.lab import RunResult, resume, train
from stemma.lab.recipe import within_tokens
from stemma.lab.run import Stages
from stemma.models import Transformer
from stemma.training import TrainingConfig, read_metrics


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(stemma.load(directory)[0].state_dict())


def test_a_run_leaves_everything_that_is_shown(small_run: RunResult) -> None:
    directory = small_run.directory
    for name in (
        "recipe.toml",
        "metrics.jsonl",
        "results.json",
        "report.html",
        "tokenizer/tokenizer.json",
        "model/model.safetensors",
        "model/README.md",
        "figures/loss.png",
        "figures/ladder.png",
        "figures/attention.png",
    ):
        assert (directory / name).stat().st_size > 0, name
    assert small_run.finished
    assert small_run.bits_per_byte is not None
    assert small_run.bits_per_byte < 8


def test_bits_per_byte_fall_while_training(small_run: RunResult) -> None:
    rows = [r for r in read_metrics(small_run.directory / "metrics.jsonl") if "bits_per_byte" in r]
    assert [row["step"] for row in rows] == [0, 4, 8, 12]
    assert rows[-1]["bits_per_byte"] < rows[0]["bits_per_byte"] - 0.5


def test_every_model_is_measured_on_the_same_bytes(small_run: RunResult) -> None:
    record = small_run.record
    held_out = record["text"]["held_out_bytes"]
    assert record["evaluation"]["n_bytes"] == held_out
    names = [row["name"] for row in record["ancestors"]]
    assert names[:3] == ["uniform", "unigram over bytes", "bigram over bytes"]
    uniform = record["ancestors"][0]["bits_per_byte"]
    # 257 symbols (256 bytes and the end of text), and one symbol more than there are bytes.
    expected = torch.log2(torch.tensor(257.0)).item() * (held_out + 1) / held_out
    assert uniform == pytest.approx(expected, rel=1e-6)


def test_the_model_opens_in_transformers_as_it_is(small_run: RunResult) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours, tokenizer = stemma.load(small_run.directory)
    theirs = AutoModelForCausalLM.from_pretrained(small_run.directory / "model")
    their_tokenizer = AutoTokenizer.from_pretrained(small_run.directory / "model")
    text = "row your boat, gently:\n  dream é"
    ids = tokenizer.encode(text).tolist()
    assert their_tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    batch = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch).logits, atol=1e-4, rtol=0)


def test_the_resolved_recipe_runs_again_to_the_same_weights(
    small_run: RunResult, tmp_path: Path
) -> None:
    again = train(small_run.directory / "recipe.toml", tmp_path / "again", quiet=True)
    assert again.bits_per_byte == small_run.bits_per_byte
    first, second = weights(small_run.directory), weights(again.directory)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights(
    small_run: RunResult, small_settings: list[str], tmp_path: Path
) -> None:
    settings = [*small_settings, "seed=1"]
    other = train("quickstart", tmp_path / "other", overrides=settings, quiet=True)
    first, second = weights(small_run.directory), weights(other.directory)
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_a_finished_run_is_shown_again_without_training(
    small_run: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(small_run.directory)
    lines = (small_run.directory / "metrics.jsonl").read_text(encoding="utf-8")
    assert resume(small_run.directory).finished
    assert (small_run.directory / "metrics.jsonl").read_text(encoding="utf-8") == lines
    assert "bits per byte" in capsys.readouterr().out
    after = weights(small_run.directory)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_model(
    how: signal.Signals, small_run: RunResult, tmp_path: Path
) -> None:
    directory = tmp_path / "stopped"
    command = [sys.executable, "-m", "stemma", "train", str(small_run.directory / "recipe.toml")]
    process = subprocess.Popen(
        [*command, "--output", str(directory)], stdout=subprocess.PIPE, text=True
    )
    metrics = directory / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_text(encoding="utf-8").count('"loss"') >= 5:
            break
        time.sleep(0.005)
    os.kill(process.pid, how)
    output, _ = process.communicate(timeout=120)
    if how == signal.SIGINT and process.returncode == 130:
        assert f"stemma resume {directory}" in output
    result = resume(directory, quiet=True)
    assert result.finished
    first, second = weights(small_run.directory), weights(directory)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_nothing_is_overwritten_silently(small_run: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already") as caught:
        train("quickstart", small_run.directory, quiet=True)
    assert f"stemma resume {small_run.directory}" in str(caught.value)
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a run"):
        train("quickstart", tmp_path, overwrite=True, quiet=True)
    assert (tmp_path / "letter.txt").read_text(encoding="utf-8") == "mine"


def test_resume_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no recipe\.toml"):
        resume(tmp_path)


def copy_of(run: RunResult, place: Path) -> Path:
    import shutil

    shutil.copytree(run.directory, place)
    return place


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("data/heldout/*.bin", DataError),
        ("tokenizer/tokenizer.json", TokenizerError),
        ("checkpoints/step-*12/*.safetensors", CheckpointError),
    ],
)
def test_damage_is_found_and_named(
    pattern: str, error: type[Exception], small_run: RunResult, tmp_path: Path
) -> None:
    directory = copy_of(small_run, tmp_path / "copy")
    victim = next(iter(sorted(directory.glob(pattern))))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0x20
    victim.write_bytes(bytes(data))
    with pytest.raises(error) as caught:
        resume(directory, quiet=True)
    assert victim.name in str(caught.value)


def test_a_damaged_record_is_named(small_run: RunResult, tmp_path: Path) -> None:
    directory = copy_of(small_run, tmp_path / "copy")
    record = directory / "results.json"
    record.write_text(record.read_text(encoding="utf-8")[:100], encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json"):
        resume(directory, quiet=True)
    record.unlink()
    assert resume(directory, quiet=True).bits_per_byte == small_run.bits_per_byte


@pytest.mark.parametrize("content", ["[]", "{}x", '{"text": {}}'])
def test_any_other_record_is_named_too(content: str, small_run: RunResult, tmp_path: Path) -> None:
    directory = copy_of(small_run, tmp_path / "copy")
    (directory / "results.json").write_text(content, encoding="utf-8")
    if content.startswith('{"'):
        assert resume(directory, quiet=True).bits_per_byte == small_run.bits_per_byte
        return
    with pytest.raises(DataError, match=r"results\.json"):
        resume(directory, quiet=True)


def test_what_a_killed_overwrite_left_is_named(
    small_run: RunResult, small_settings: list[str], tmp_path: Path
) -> None:
    directory = copy_of(small_run, tmp_path / "copy")
    left = copy_of(small_run, tmp_path / ".copy.replaced")
    with pytest.raises(ConfigError) as caught:
        train("quickstart", directory, overrides=small_settings, overwrite=True, quiet=True)
    assert str(left) in str(caught.value)
    assert weights(left)


def test_a_run_goes_on_with_another_learning_rate(small_run: RunResult, tmp_path: Path) -> None:
    directory = copy_of(small_run, tmp_path / "copy")
    for name in ("results.json", "model/config.json"):
        (directory / name).unlink()
    import shutil

    shutil.rmtree(directory / "model")
    shutil.rmtree(directory / "checkpoints" / "step-00000012", ignore_errors=True)
    last = sorted((directory / "checkpoints").glob("step-*"))
    if len(last) > 1:
        shutil.rmtree(last[-1])
    resume(directory, overrides=["optimizer.lr=0.001"], quiet=True)
    first, second = weights(small_run.directory), weights(directory)
    assert not torch.equal(first["head.weight"], second["head.weight"])
    assert "lr = 0.001" in (directory / "recipe.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["measure_ancestors", "prepare"])
def test_ctrl_c_in_any_stage_says_how_to_go_on(
    stage: str,
    small_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, stage, interrupted)
    directory = tmp_path / "run"
    result = train("quickstart", directory, overrides=small_settings)
    assert not result.finished
    told = capsys.readouterr().out
    assert "Interrupted" in told
    assert directory.exists() == (f"stemma resume {directory}" in told) == (stage != "prepare")


def test_a_small_text_is_not_read_more_often_than_asked() -> None:
    training = TrainingConfig(steps=400, batch_size=16)
    assert within_tokens(training, 10**9, 256) == training
    shorter = within_tokens(training, 400 * 256 * 8, 256)
    assert (shorter.steps, shorter.batch_size) == (400, 8)
    shortest = within_tokens(training, 256 * 4 * 100, 256)
    assert (shortest.steps, shortest.batch_size) == (100, 4)
    assert within_tokens(training, 1, 256).steps == 50


def test_the_record_is_plain_json(small_run: RunResult) -> None:
    stored = json.loads((small_run.directory / "results.json").read_text(encoding="utf-8"))
    assert stored["evaluation"]["bits_per_byte"] == small_run.bits_per_byte


def test_packed_documents_train_too(small_settings: list[str], tmp_path: Path) -> None:
    settings = [*small_settings, "data.windows=packed", "evaluation.ngram_order=0"]
    result = train("quickstart", tmp_path / "packed", overrides=settings, quiet=True)
    model, _ = stemma.load(result.directory)
    assert isinstance(model, Transformer)
    assert result.record["ancestors"] == []
