from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor
from typer.testing import CliRunner

from stemma.errors import ConfigError, ModelError
from stemma.hub import load, save_model
from stemma.inference import (
    SamplingConfig,
    StopStrings,
    collect,
    generate,
    generate_batch,
    generate_samples,
    sample_seeds,
    stream,
)
from stemma.inference.commands import generate_command
from stemma.tokenizers import ByteTokenizer, WordTokenizer

BYTES = ByteTokenizer()
GREEDY = SamplingConfig(temperature=0)


class Script:
    """Says the given ids after a prompt of ``n_prompt`` ids, each with probability 0.9."""

    def __init__(self, ids: list[int], n_prompt: int, context_length: int | None = None) -> None:
        self.ids, self.n_prompt = ids, n_prompt
        self.vocab_size, self.context_length = BYTES.vocab_size, context_length

    def next_log_probs(self, ids: Tensor) -> Tensor:
        n_said = ids.shape[1] - self.n_prompt
        others = 0.1 / (self.vocab_size - 1)
        probs = torch.full((1, ids.shape[1], self.vocab_size), others)
        probs[0, -1, self.ids[n_said]] = 0.9
        return probs.log()


class Flat:
    """Every byte is as probable as any other."""

    vocab_size, context_length = BYTES.vocab_size, None

    def next_log_probs(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, self.vocab_size).log_softmax(-1)


def script(text: str, **options: int) -> Script:
    return Script([*text.encode()], n_prompt=1, **options)


def test_a_generation_knows_everything_about_itself() -> None:
    generation = generate((script("abc"), BYTES), "x", max_new_tokens=3, temperature=0, seed=5)
    assert (generation.prompt, generation.text, generation.seed) == ("x", "abc", 5)
    assert generation.ids == tuple(b"abc")
    assert generation.log_probs == pytest.approx([math.log(0.9)] * 3, abs=1e-6)
    assert generation.finish_reason == "length"


def test_log_probs_are_the_model_s_own_whatever_the_rules() -> None:
    rules = SamplingConfig(temperature=0.3, top_k=1, repetition_penalty=2)
    generation = generate((script("aaa"), BYTES), "x", max_new_tokens=3, sampling=rules)
    assert generation.log_probs == pytest.approx([math.log(0.9)] * 3, abs=1e-6)


def test_log_probs_are_those_of_the_ids_that_were_chosen() -> None:
    class Uneven(Flat):
        def next_log_probs(self, ids: Tensor) -> Tensor:
            others = torch.arange(self.vocab_size) * 0.01
            return (others * ids.unsqueeze(-1).cos()).log_softmax(-1)

    generation = generate((Uneven(), BYTES), "x", max_new_tokens=20, seed=0)
    text = torch.tensor([[*b"x", *generation.ids]])
    log_probs = Uneven().next_log_probs(text[:, :-1]).gather(-1, text[:, 1:, None])
    assert generation.log_probs == pytest.approx(log_probs.flatten().tolist(), abs=1e-5)


def test_no_piece_ends_within_a_character() -> None:
    text = "né€😀!"
    pieces = list(stream(script(text), BYTES, "x", max_new_tokens=11, sampling=GREEDY))
    assert "".join(pieces) == text
    assert pieces == list(text)


def test_a_character_cut_off_by_the_end_is_marked() -> None:
    generation = generate((script("a€"), BYTES), "x", max_new_tokens=3, temperature=0)
    assert generation.text == "a\N{REPLACEMENT CHARACTER}"


def test_the_mark_of_a_cut_off_character_can_be_a_stop_string() -> None:
    mark = "\N{REPLACEMENT CHARACTER}"
    generation = generate((script("a€"), BYTES), "x", max_new_tokens=3, temperature=0, stop=mark)
    assert (generation.text, generation.finish_reason) == ("a", "stop")


def test_end_of_text_ends_it_and_is_not_shown() -> None:
    assert BYTES.end_of_text is not None
    model = Script([*b"ab", BYTES.end_of_text, *b"c"], n_prompt=1)
    generation = generate((model, BYTES), "x", temperature=0)
    assert generation.text == "ab"
    assert generation.ids == (*b"ab", BYTES.end_of_text)
    assert generation.finish_reason == "end_of_text"


def test_ids_that_a_model_s_files_call_its_end_end_it(tmp_path: Path) -> None:
    model, rules = tiny_model(vocab_size=BYTES.vocab_size, seed=3), SamplingConfig(seed=1)
    free = generate((model, BYTES), "x", max_new_tokens=9, sampling=rules).ids
    n = next(n for n in range(4, 9) if free[n] not in free[:n])
    ends = {"eos_token_id": [free[n], 7]}
    place = save_model(model, BYTES, tmp_path / "m", generation=ends)
    found = generate(place, "x", max_new_tokens=9, sampling=rules)
    assert (found.ids, found.finish_reason) == (free[: n + 1], "end_of_text")
    opened, tokenizer = load(place)
    assert tokenizer.end_ids == {BYTES.end_of_text, free[n], 7}
    assert BYTES.end_ids == {BYTES.end_of_text}
    (together,) = generate_batch(opened, tokenizer, ["x"], max_new_tokens=9, sampling=rules)
    assert (together.ids, together.text) == (found.ids, found.text)
    again = save_model(opened, tokenizer, tmp_path / "again")
    assert load(again)[1].end_ids == tokenizer.end_ids
    app = typer.Typer()
    app.command()(generate_command)
    shown = CliRunner().invoke(app, [str(place), "x", "--seed", "1", "--json"])
    assert json.loads(shown.stdout)["ids"] == [*found.ids]


@pytest.mark.parametrize("stop", ["User:", ["User:"], ("Bot:", "User:")])
def test_a_stop_string_ends_it_and_is_not_shown(stop: str | list[str]) -> None:
    model = script("Yes. Use it.\nUser: Thanks.")
    generation = generate((model, BYTES), "x", stop=stop, temperature=0)
    assert generation.text == "Yes. Use it.\n"
    assert generation.ids == tuple(b"Yes. Use it.\nUser:")
    assert generation.finish_reason == "stop"


def test_a_stop_string_may_hold_part_of_what_the_tokens_cut() -> None:
    generation = generate((script("aé€b"), BYTES), "x", stop="é€", temperature=0)
    assert generation.text == "a"


@given(st.text("ab€", max_size=12), st.lists(st.text("ab€", min_size=1, max_size=3), max_size=3))
def test_streaming_equals_generating_everything_and_cutting_it(text: str, stops: list[str]) -> None:
    n_bytes = len(text.encode())
    pieces = stream(script(text), BYTES, "x", max_new_tokens=n_bytes, sampling=GREEDY, stop=stops)
    whole = StopStrings(stops)
    assert collect(pieces).text == whole.push(text) + whole.finish()


def test_a_full_context_is_told_from_enough_tokens() -> None:
    model = script("abcdefgh", context_length=4)
    generation = generate((model, BYTES), "x", max_new_tokens=8, temperature=0)
    assert (generation.text, generation.finish_reason) == ("abcd", "context")
    generation = generate((model, BYTES), "x", max_new_tokens=4, temperature=0)
    assert (generation.text, generation.finish_reason) == ("abcd", "length")


def test_a_prompt_longer_than_the_context_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match="the prompt has 5 tokens, the model's context holds 4"):
        stream(script("a", context_length=4), BYTES, "12345")


def test_words_go_on_behind_the_prompt() -> None:
    words = WordTokenizer.train(["the cat sat on the mat"])
    ids = words.encode("the cat sat on the mat").tolist()

    class Says(Script):
        vocab_size = words.vocab_size

        def __init__(self) -> None:
            self.ids, self.n_prompt, self.context_length = ids[2:], 2, None

    generation = generate((Says(), words), "the cat", max_new_tokens=4, temperature=0)
    assert generation.prompt + generation.text == "the cat sat on the mat"


def test_no_prompt_begins_a_document() -> None:
    class Spy(Script):
        def next_log_probs(self, ids: Tensor) -> Tensor:
            assert ids[0, 0] == BYTES.end_of_text
            return super().next_log_probs(ids)

    generation = generate((Spy([*b"hi"], n_prompt=1), BYTES), max_new_tokens=2, temperature=0)
    assert generation.text == "hi"


def test_no_prompt_without_an_end_of_text_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteTokenizer, "end_of_text", None)
    with pytest.raises(ModelError, match="empty, and the tokenizer has no end-of-text"):
        generate((Flat(), BYTES), "")


def test_a_prompt_may_be_ids() -> None:
    generation = generate((script("b"), BYTES), list(b"a"), max_new_tokens=1, temperature=0)
    assert (generation.prompt, generation.text) == ("a", "b")


def test_special_tokens_in_a_prompt_are_plain_text() -> None:
    class Spy(Flat):
        def next_log_probs(self, ids: Tensor) -> Tensor:
            assert ids[0, :13].tolist() == list(b"<|endoftext|>")
            return super().next_log_probs(ids)

    generate((Spy(), BYTES), "<|endoftext|>", max_new_tokens=1)


def test_ids_the_tokenizer_does_not_have_are_never_chosen() -> None:
    class Padded(Flat):
        vocab_size = BYTES.vocab_size + 1000

    assert max(generate((Padded(), BYTES), "x", max_new_tokens=50, seed=0).ids) < BYTES.vocab_size


def test_another_model_s_tokenizer_is_refused() -> None:
    class Smaller(Flat):
        vocab_size = 100

    with pytest.raises(ModelError, match=f"tokenizer has {BYTES.vocab_size} ids, the model 100"):
        generate((Smaller(), BYTES), "x")


def test_a_reported_seed_gives_the_text_again() -> None:
    first, second = generate_samples((Flat(), BYTES), "x", num_samples=2, max_new_tokens=20)
    assert first.ids != second.ids
    for sample in (first, second):
        assert generate((Flat(), BYTES), "x", max_new_tokens=20, seed=sample.seed) == sample


def test_a_stream_without_a_seed_reports_the_one_it_took() -> None:
    first = collect(stream(Flat(), BYTES, "x", max_new_tokens=20))
    again = stream(Flat(), BYTES, "x", max_new_tokens=20, sampling=SamplingConfig(seed=first.seed))
    assert collect(again) == first


def test_the_seeds_of_samples_are_derived_from_the_first() -> None:
    assert sample_seeds(7, 3) == sample_seeds(7, 5)[:3]
    assert sample_seeds(7, 1) == [7]
    assert len({*sample_seeds(7, 100), *sample_seeds(8, 100)}) == 200
    assert sample_seeds(None, 2) != sample_seeds(None, 2)
    with pytest.raises(ModelError, match="0 samples"):
        sample_seeds(7, 0)


def test_rules_are_laid_over_the_sampling_and_checked() -> None:
    loose = SamplingConfig(temperature=50, seed=1)
    assert (
        generate((script("abc"), BYTES), "x", sampling=loose, max_new_tokens=3, top_k=1).text
        == "abc"
    )
    with pytest.raises(ConfigError, match="sampling: top_p = 2"):
        generate((Flat(), BYTES), "x", top_p=2)
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        generate((Flat(), BYTES), "x", temprature=2)  # type: ignore[call-arg]


def test_an_empty_stop_string_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="a stop string is empty"):
        stream(Flat(), BYTES, "x", stop=[""])


def test_the_top_alternatives_are_those_of_the_model_whatever_the_rules() -> None:
    rules = SamplingConfig(temperature=0, logit_bias={ord("z"): 100.0})
    generation = generate(
        (script("ab"), BYTES), "x", max_new_tokens=2, sampling=rules, top_alternatives=2
    )
    assert generation.text == "zz"
    best = [place[0] for place in generation.top_alternatives]
    assert [(row.id, row.text) for row in best] == [(97, "a"), (98, "b")]
    assert best[0].log_prob == pytest.approx(math.log(0.9), abs=1e-6)
    assert [len(place) for place in generation.top_alternatives] == [2, 2]
    assert generate((script("a"), BYTES), "x", max_new_tokens=1).top_alternatives == ()
