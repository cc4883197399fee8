from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner, Result

from stemma import hub
from stemma.errors import ConfigError, DataError, ModelError
from stemma.inference.commands import generate_command
from stemma.tokenizers import ByteTokenizer, CharacterTokenizer, WordTokenizer

BYTES = ByteTokenizer()
Run = Callable[..., Result]


class NextByte:
    """The alphabet: after every byte the next one, most of the time."""

    vocab_size, context_length = BYTES.vocab_size, 40

    def next_log_probs(self, ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, self.vocab_size)
        logits.scatter_(-1, (ids + 1).clamp(max=255).unsqueeze(-1), 5.0)
        return logits.log_softmax(-1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(hub, "load", lambda name, dtype: (NextByte(), BYTES), raising=False)
    monkeypatch.setattr(hub, "find_model", lambda name: tmp_path, raising=False)
    monkeypatch.setattr("stemma.hub.opening.refuse_encoder", lambda place: None)
    app = typer.Typer()
    app.command()(generate_command)

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, ["model", *arguments], input=stdin)

    return run


def test_prompt_and_continuation_go_to_standard_output(run: Run) -> None:
    result = run("abc", "--greedy", "--max-new-tokens", "3")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "abcdef\n", "")


def test_a_dash_reads_the_prompt_as_it_is(run: Run) -> None:
    result = run("-", "--greedy", "--max-new-tokens", "2", stdin="x\na")
    assert result.stdout == "x\nabc\n"


def test_standard_input_that_is_not_utf8_is_refused_with_its_place(run: Run) -> None:
    result = run("-", stdin=b"ab\xff")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("standard input: not UTF-8: byte 0xff at offset 2")


def test_precision_and_few_bits_are_handed_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(name: str, **chosen: object) -> tuple[NextByte, ByteTokenizer]:
        asked.append(chosen)
        return NextByte(), BYTES

    monkeypatch.setattr(hub, "load", load)
    monkeypatch.setattr(
        "stemma.inference.quantisation.quantise", lambda model, bits: asked.append(bits) or model
    )
    assert run("abc", "--dtype", "bfloat16", "--quantise", "int4").exit_code == 0
    assert asked == [{"dtype": "bfloat16"}, "int4"]
    assert run("abc").exit_code == 0
    assert asked[2:] == [{"dtype": "fast"}]
    assert run("abc", "--quantise", "int3").exit_code == 2


def test_stop_strings(run: Run) -> None:
    assert run("a", "--greedy", "--stop", "z", "--stop", "de").stdout == "abc\n"


def test_the_same_seed_gives_the_same_samples_and_each_sample_is_another(run: Run) -> None:
    arguments = (
        "a",
        "--seed",
        "3",
        "--samples",
        "2",
        "--temperature",
        "3",
        "--max-new-tokens",
        "9",
    )
    first = run(*arguments).stdout
    assert first == run(*arguments).stdout
    _, one, two = first.split("--- ")
    assert one.startswith("1 of 2\n")
    assert one.removeprefix("1 of 2\n") != two.removeprefix("2 of 2\n")


def test_json_holds_everything(run: Run) -> None:
    result = run("a", "--json", "--samples", "2", "--seed", "1", "--max-new-tokens", "4")
    first, second = map(json.loads, result.stdout.splitlines())
    assert list(first) == ["prompt", "text", "ids", "log_probs", "finish_reason", "seed"]
    assert (first["prompt"], first["seed"], len(first["log_probs"])) == ("a", 1, 4)
    again = run("a", "--json", "--seed", str(second["seed"]), "--max-new-tokens", "4")
    assert json.loads(again.stdout) == second


def test_a_full_context_is_said_on_standard_error_and_slide_goes_on(run: Run) -> None:
    ended = run("a", "--greedy", "--max-new-tokens", "60")
    assert len(ended.stdout) == 42
    assert ended.stderr == "The context is full: --slide goes on.\n"
    slid = run("a", "--greedy", "--max-new-tokens", "60", "--slide")
    assert len(slid.stdout) == 62
    assert slid.stderr == ""


def test_bad_options_are_refused(run: Run) -> None:
    result = run("a", "--greedy", "--temperature", "1")
    assert result.exit_code == 2
    assert "it is temperature 0" in result.stderr
    result = run("a", "--top-p", "2")
    assert isinstance(result.exception, ConfigError)
    assert "top_p = 2.0" in str(result.exception)


def test_the_command_s_help_does_not_wait_for_torch() -> None:
    code = "import sys, stemma.inference.commands; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_biases_and_alternatives(run: Run) -> None:
    result = run(
        *("a", "--greedy", "--max-new-tokens", "2", "--json"),
        *("--top-alternatives", "1", "--logit-bias", "z=100"),
    )
    values = json.loads(result.stdout)
    assert values["text"] == "zz"
    assert [place[0]["text"] for place in values["top_alternatives"]] == ["b", "{"]


def test_penalties_are_passed_on(run: Run) -> None:
    result = run("a", "--greedy", "--max-new-tokens", "3", "--frequency-penalty", "-100")
    assert result.stdout == "abbb\n"


def test_a_file_of_prompts(run: Run, tmp_path: Path) -> None:
    lines, objects = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("a\n\nmn\n")
    objects.write_text('{"prompt": "a", "id": 1}\n"mn"\n')
    options = ("--greedy", "--max-new-tokens", "2")
    shown = run(*options, "--batch", str(lines)).stdout
    assert shown == "--- 1 of 2\nabc\n--- 2 of 2\nmnop\n"
    result = run(*options, "--json", "--batch", str(objects)).stdout
    assert [json.loads(line)["text"] for line in result.splitlines()] == ["bc", "op"]
    assert run("x", "--batch", str(lines)).exit_code == 2
    objects.write_text('{"prompt": "a"}\n{"text": "a"}\n')
    refused = run("--batch", str(objects))
    assert "line 2: holds no prompt" in str(refused.exception)


def test_each_prompt_of_a_file_has_the_seed_of_its_sample(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a\na\n")
    options = ("--json", "--seed", "3", "--temperature", "9")
    together = [
        json.loads(line) for line in run(*options, "--batch", str(file)).stdout.splitlines()
    ]
    alone = [json.loads(line) for line in run("a", *options, "--samples", "2").stdout.splitlines()]
    assert [row["text"] for row in together] == [row["text"] for row in alone]
    assert together[0]["text"] != together[1]["text"]


def test_a_draft_whose_ids_mean_something_else_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = CharacterTokenizer("abc")
    found = {True: (NextByte(), others), False: (NextByte(), BYTES)}
    places = iter([False, True])
    monkeypatch.setattr(hub, "load", lambda name, dtype: found[next(places)])
    result = run("abc", "--draft", "another")
    assert isinstance(result.exception, ModelError)
    assert "--draft another: its ids stand for other texts" in str(result.exception)


def test_tokenizers_agree_where_each_id_means_the_same() -> None:
    few, more = WordTokenizer.train(["a b"]), WordTokenizer.train(["a b c"])
    assert BYTES.agrees_with(ByteTokenizer())
    assert not BYTES.agrees_with(CharacterTokenizer("abc"))
    assert few.agrees_with(few)
    assert not few.agrees_with(more)


def test_a_draft_leaves_the_text_as_it_is(run: Run) -> None:
    for draft in ("lookup", "another"):
        result = run("abcab", "--greedy", "--max-new-tokens", "9", "--draft", draft)
        assert (result.exit_code, result.stdout) == (0, "abcabcdefghijk\n")
        worth = {"lookup": "1.12 tokens per pass of the model, 1 of 2 guesses accepted (50%)"}
        own = "4.50 tokens per pass of the model, 7 of 7 guesses accepted (100%)"
        assert result.stderr == f"draft: {worth.get(draft, own)}\n"
    assert run("abc", "--draft", "lookup", "--slide").exit_code == 2


def test_options_are_checked_before_the_model_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load(name: str, dtype: str) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(hub, "load", load)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for arguments, error in {
        ("a", "--logit-bias", "foo"): "'foo' is not TOKEN=NUMBER",
        ("a", "--stop", ""): "a stop string is empty",
        ("--batch", str(tmp_path / "none")): "cannot be read",
        ("--batch", str(empty)): "holds no prompt",
    }.items():
        assert error in str(run(*arguments).exception)
    refused = run("a", "--top-alternatives", "2")
    assert refused.exit_code == 2
    assert "only --json shows them" in refused.stderr


def test_an_error_comes_before_the_prompt_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Damaged(NextByte):
        def next_log_probs(self, ids: Tensor) -> Tensor:
            return super().next_log_probs(ids) * float("nan")

    monkeypatch.setattr(hub, "load", lambda name, dtype: (Damaged(), BYTES))
    result = run("abc")
    assert isinstance(result.exception, ModelError)
    assert result.stdout == ""


def test_the_prompt_is_shown_where_nothing_follows(run: Run) -> None:
    assert run("abc", "--greedy", "--stop", "d").stdout == "abc\n"
