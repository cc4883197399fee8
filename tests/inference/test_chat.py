"""Conversations: what is fed, what is kept, what is dropped; and the terminal around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor
from typer.testing import CliRunner

from stemma import hub
from stemma.cli import build_app
from stemma.errors import ConfigError, DataError, ModelError
from stemma.hub import read_manners, save_model
from stemma.inference import (
    Chat,
    ChatTerminal,
    Reply,
    SamplingConfig,
    TemplateFormat,
    TranscriptFormat,
    load_chat,
    save_chat,
)
from stemma.inference.chat_terminal import turns_of
from stemma.models import Transformer, preset
from stemma.tokenizers import ByteTokenizer, ChatTemplate

BYTES = ByteTokenizer()
END = BYTES.end_of_text
GREEDY = SamplingConfig(temperature=0)
TEMPLATE = ChatTemplate(
    "{% for m in messages %}{{ m.role[0] }}={{ m.content }}"
    "{% if m.role == 'assistant' %}<|endoftext|>{% endif %}|{% endfor %}"
    "{% if add_generation_prompt %}a={% endif %}"
)
FORMAT = TemplateFormat(TEMPLATE, BYTES)


class Counting:
    """Says the alphabet behind the prompt's last letter but one, and ends behind a d."""

    vocab_size, context_length = BYTES.vocab_size, 400

    def __init__(self, script: str = "abcd") -> None:
        self.script = script

    def next_log_probs(self, ids: Tensor) -> Tensor:
        text = bytes(id_ for id_ in ids[0].tolist() if id_ < 256).decode(errors="replace")
        said = text[max(text.rfind("a=") + 2, text.rfind("Bot:") + 4) :]
        n = len(said)
        id_ = ord(self.script[n]) if n < len(self.script) else int(END or 0)
        logits = torch.zeros(1, ids.shape[1], self.vocab_size)
        logits[0, -1, id_] = 50.0
        return logits.log_softmax(-1)


def answer(chat: Chat, question: str) -> Reply:
    pieces = chat.ask(question)
    shown = ""
    while True:
        try:
            shown += next(pieces)
        except StopIteration as end:
            reply: Reply = end.value
            assert chat.format.answer(shown) == reply.text
            return reply


def test_an_answer_ends_at_the_end_of_the_turn_and_is_kept() -> None:
    assert FORMAT.end_ids == {END}
    chat = Chat(Counting(), BYTES, FORMAT, sampling=GREEDY)
    reply = answer(chat, "hi")
    assert (reply.text, reply.finish_reason, reply.n_tokens) == ("abcd", "end_of_text", 5)
    assert chat.messages == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "abcd"},
    ]


SPEAKS = tiny_model(vocab_size=BYTES.vocab_size, context_length=200, seed=3)


def test_the_cache_keeps_the_conversation_and_changes_nothing() -> None:
    chat = Chat(SPEAKS, BYTES, FORMAT, sampling=SamplingConfig(seed=4), max_new_tokens=12)
    replies = [answer(chat, question) for question in ("one", "two", "three")]
    for i, reply in enumerate(replies):
        fresh = Chat(SPEAKS, BYTES, FORMAT, sampling=SamplingConfig(seed=4), max_new_tokens=12)
        fresh.messages = [*chat.messages[: 2 * i]]
        fresh._n_answers = i
        assert answer(fresh, chat.messages[2 * i]["content"]).text == reply.text
    assert replies[0].n_reused == 0
    # Bytes that are no text are spelled otherwise when they are fed again; the rest is reused.
    assert all(reply.n_reused >= 6 for reply in replies[1:])
    assert len({reply.text for reply in replies}) == 3


def test_only_what_is_new_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    hidden_states = SPEAKS.hidden_states

    def spy(ids: Tensor, **options: Any) -> Tensor:
        fed.append(ids.shape[1])
        return hidden_states(ids, **options)

    monkeypatch.setattr(SPEAKS, "hidden_states", spy)
    monkeypatch.setattr("stemma.inference.decode.engine_for", lambda *_: None)
    rules = SamplingConfig(temperature=0, logit_bias={ord("x"): 1000.0})
    chat = Chat(SPEAKS, BYTES, FORMAT, sampling=rules, max_new_tokens=3)
    answer(chat, "hello")
    assert fed == [len("u=hello|a="), 1, 1]
    fed.clear()
    reply = answer(chat, "go")
    # The last x of the answer was chosen and not yet fed, nor what the template puts behind it.
    assert fed == [len("x") + 1 + len("|u=go|a="), 1, 1]
    assert reply.n_prompt - reply.n_reused == fed[0]


def test_the_oldest_turns_are_dropped_in_pairs() -> None:
    chat = Chat(Counting(), BYTES, FORMAT, sampling=GREEDY, max_new_tokens=300)
    chat.system = "be brief"
    replies = [answer(chat, "x" * 100) for _ in range(4)]
    assert [reply.n_dropped for reply in replies] == [0, 0, 2, 2]
    assert [m["role"] for m in chat.messages] == ["system", *["user", "assistant"] * 2]
    assert all(reply.text == "abcd" for reply in replies)


def test_a_question_that_cannot_fit_is_taken_back_and_nothing_is_lost() -> None:
    chat = Chat(Counting(), BYTES, FORMAT, sampling=GREEDY)
    answer(chat, "hi")
    before = [*chat.messages]
    with pytest.raises(ModelError, match="this message makes 405 tokens, and the context of 400"):
        answer(chat, "x" * 400)
    assert chat.messages == before


def test_a_transcript_stops_where_the_user_would_speak() -> None:
    format_ = TranscriptFormat(BYTES)
    chat = Chat(Counting(" fine.\nUser: and"), BYTES, format_, sampling=GREEDY)
    reply = answer(chat, "how?")
    assert (reply.text, reply.finish_reason) == ("fine.", "stop")
    text = BYTES.decode(format_.prompt_ids([*chat.messages, {"role": "user", "content": "So?"}]))
    assert text.endswith("\n\nUser: how?\nBot: fine.\nUser: So?\nBot:")
    chat.system = "Rhyme."
    assert BYTES.decode(format_.prompt_ids(chat.messages)).startswith("Rhyme.\n\nUser: how?")


def test_special_tokens_of_a_user_are_plain_text() -> None:
    ids = FORMAT.prompt_ids([{"role": "user", "content": "<|endoftext|>"}])
    assert END not in ids
    assert END not in TranscriptFormat(BYTES).prompt_ids(
        [{"role": "user", "content": "<|endoftext|>"}]
    )


def test_undo_reset_and_system() -> None:
    chat = Chat(Counting(), BYTES, FORMAT, sampling=GREEDY)
    assert chat.undo() is None
    chat.system = "one"
    chat.system = "two"
    answer(chat, "a")
    answer(chat, "b")
    assert chat.undo() == "b"
    assert [m["content"] for m in chat.messages] == ["two", "a", "abcd"]
    chat.reset()
    assert chat.messages == [{"role": "system", "content": "two"}]
    assert chat.undo() is None
    chat.system = None
    assert (chat.messages, chat.system) == ([], None)


class Session:
    """A terminal, and what it showed and noted."""

    def __init__(self, model: Any = None, **options: Any) -> None:
        self.shown, self.notes = "", list[str]()
        self.chat = Chat(model or Counting(), BYTES, FORMAT, sampling=GREEDY, **options)
        self.terminal = ChatTerminal(self.chat, show=self.show, note=self.notes.append)
        self.interrupts = 0

    def show(self, piece: str) -> None:
        self.shown += piece
        if self.interrupts and piece == "b":
            self.interrupts -= 1
            raise KeyboardInterrupt

    def say(self, *lines: str) -> str:
        self.shown = ""
        self.notes.clear()
        self.terminal.run(lines)
        return "\n".join(self.notes)


def test_a_conversation_by_lines() -> None:
    session = Session()
    assert session.say("hi", "", "  ", "there", "/exit now", "never") == ""
    assert session.shown == "abcd\nabcd\n"
    assert len(session.chat.messages) == 4


def test_commands(tmp_path: Path) -> None:
    session = Session()
    assert "temperature 0.5" in session.say("/set temperature 0.5")
    assert "top_k 3" in session.say("/set top_k=3")
    assert "top_p 0.5" in session.say("/set top_p = 0.5")
    shown = session.say("/set").splitlines()
    assert [line.split() for line in shown if line.startswith(("top_p", "min_p", "max"))] == [
        ["top_p", "0.5"],
        ["min_p", "none"],
        ["max_new_tokens", "512"],
    ]
    assert "top_k" not in session.say("/set top_k none")
    assert "max_new_tokens 7" in session.say("/set max_new_tokens 7")
    assert "Did you mean 'temperature'?" in session.say("/set temprature 1")
    assert "The keys here are: " in session.say("/set nonsense=3")
    assert "temperature = 'hot': input should be a number" in session.say("/set temperature hot")
    assert "a name and a value are needed" in session.say("/set temperature")
    assert "system: the format's own, if it has one; /system TEXT" in session.say("/show")
    assert "(empty)" in session.say("/system")
    assert "system: none; /system TEXT sets one" in session.say("/show")
    session.say("/system Be kind.")
    assert "system: Be kind.\n" in session.say("/show")
    assert session.chat.system == "Be kind."
    assert "0 questions, 13 of 400 tokens" in session.say("/show")
    assert "did you mean /show?" in session.say("/shwo")
    assert "/help lists" in session.say("/qqqqq")
    assert "no question yet" in session.say("/retry")
    session.say("hi")
    session.say("/retry")
    assert session.shown == "abcd\n"
    assert len(session.chat.messages) == 3
    assert "taken back: hi" in session.say("/undo")
    assert "nothing to take back" in session.say("/undo")
    assert "Ctrl-D" in session.say("/help")
    file = tmp_path / "chat.json"
    session.say("hi", f"/save {file}")
    session.say("there", f"/save {file}")  # its own file may be replaced
    other = Session()
    assert "exists, and nothing is overwritten" in other.say(f"/save {file}")
    assert "5 messages" in other.say(f"/load {file}")
    assert other.chat.messages == session.chat.messages
    assert other.chat.sampling == session.chat.sampling
    assert other.chat.max_new_tokens == 7
    assert "(replaced" in other.say("/reset", f"/save {file}")
    assert "/save! FILE" in Session().say(f"/save {file}")
    assert "(replaced" in Session().say(f"/save! {file}")
    assert "a file is needed" in other.say("/save")


def test_one_question_is_one() -> None:
    session = Session()
    session.say("hi")
    assert "conversation: 1 question, " in session.say("/show")


def test_ctrl_c_ends_the_answer_and_not_the_chat() -> None:
    session = Session()
    session.interrupts = 1
    assert "interrupted" in session.say("hi", "again")
    assert session.shown == "ab\nabcd\n"
    assert [m["content"] for m in session.chat.messages] == ["hi", "ab", "again", "abcd"]


def test_an_interrupted_cached_answer_leaves_the_cache_right() -> None:
    rules = SamplingConfig(temperature=0)
    chats = [Chat(SPEAKS, BYTES, FORMAT, sampling=rules, max_new_tokens=10) for _ in range(2)]
    pieces = chats[0].ask("hi")
    next(pieces)
    pieces.close()
    chats[1].messages = [*chats[0].messages]
    assert answer(chats[0], "go on").text == answer(chats[1], "go on").text


def test_notes_about_an_answer() -> None:
    assert "/set max_new_tokens" in Session(max_new_tokens=2).say("hi")
    session = Session(max_new_tokens=300)
    assert "the 2 oldest messages were dropped" in session.say(*["x" * 160] * 2)
    session.terminal._statistics = True
    assert "tokens/s" in session.say("hi")


@pytest.mark.parametrize(
    ("lines", "turns"),
    [
        (["a\n", "b\r\n"], ["a", "b"]),
        (['"""', "a", " b", '"""', "c"], ["a\n b", "c"]),
        (['"""a', 'b"""'], ["a\nb"]),
        (['"""a"""'], ["a"]),
        (['"""a', "b"], ["a\nb"]),
    ],
)
def test_messages_of_several_lines(lines: list[str], turns: list[str]) -> None:
    assert list(turns_of(lines)) == turns


@settings(max_examples=60)
@given(
    st.lists(st.text(max_size=30).map(lambda text: "/" + text) | st.text(max_size=10), max_size=5)
)
def test_nothing_that_is_typed_breaks_the_chat(lines: list[str]) -> None:
    lines = [line for line in lines if not line.startswith(("/save", "/load"))]
    Session().say(*lines)


def test_files_that_are_no_conversation(tmp_path: Path) -> None:
    chat = Chat(Counting(), BYTES, FORMAT)
    file = tmp_path / "chat.json"
    for text in ("", "[]", "{}", '{"messages": [1]}', '{"messages": [{"role": "x"}]}'):
        file.write_text(text)
        with pytest.raises(DataError):
            load_chat(chat, file)
    system = {"role": "system", "content": "a"}
    file.write_text(json.dumps({"messages": [system, system]}))
    with pytest.raises(DataError, match="a system message stands behind others"):
        load_chat(chat, file)
    file.write_text(json.dumps({"messages": [], "sampling": {"temperature": -1}}))
    with pytest.raises(ConfigError, match="temperature = -1"):
        load_chat(chat, file)
    for wrong in (0, "7", True):
        file.write_text(json.dumps({"messages": [], "max_new_tokens": wrong}))
        with pytest.raises(DataError, match=f"max_new_tokens = {wrong!r}"):
            load_chat(chat, file)
    with pytest.raises(DataError, match="cannot be written"):
        save_chat(chat, tmp_path / "no" / "folder.json")
    assert chat.messages == []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = tiny_model(vocab_size=BYTES.vocab_size, context_length=300)
    return save_model(model, BYTES, tmp_path / "model")


def test_the_sampling_that_authors_recommend(directory: Path) -> None:
    assert read_manners(directory, BYTES).sampling() == {}
    values = {"do_sample": True, "temperature": 0.6, "top_p": 1.0, "top_k": 0, "min_p": 0.1}
    file = directory / "generation_config.json"
    file.write_text(json.dumps({**values, "eos_token_id": [256, 7]}))
    (directory / "chat_template.jinja").write_text(TEMPLATE.source)
    found = read_manners(directory, BYTES)
    assert found.eos == (256, 7)
    assert found.sampling() == {"temperature": 0.6, "min_p": 0.1}
    assert found.chat_template == TEMPLATE.source
    file.write_text(json.dumps({"temperature": 0.6}))
    assert read_manners(directory, BYTES).sampling() == {}


def test_the_command_looks_before_it_loads(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "load", lambda *_, **__: pytest.fail("loaded"))
    text = tmp_path / "chat.txt"
    text.write_text("hi")

    def refused(model: Path, *options: str) -> str:
        result = CliRunner().invoke(build_app("chat"), ["chat", str(model), *options], input="")
        return str(result.exception)

    assert "chat.txt: is no conversation" in refused(directory, "--load", str(text))
    assert "none.json: cannot be read: No such file" in refused(
        directory, "--load", str(tmp_path / "none.json")
    )
    assert "a name and a value are needed" in refused(directory, "--set", "temperature")
    bert = preset("bert-base").replace(vocab_size=BYTES.vocab_size, d_model=12, n_layers=1)
    encoder = save_model(Transformer(bert), BYTES, tmp_path / "encoder")
    assert "is an encoder" in refused(encoder)


def test_the_command_reads_a_pipe(directory: Path) -> None:
    app = build_app("chat")
    options = ["--max-new-tokens", "5", "--set", 'logit_bias={"120": 1000}']
    result = CliRunner().invoke(app, ["chat", str(directory), *options], input="hi\n/show\nyou\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == "xxxxx\nxxxxx\n"
    assert "a transcript, since the model has no chat template" in result.stderr


def test_options_of_the_command_stand_above_a_saved_conversation(
    directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "chat.json"
    rules = {"logit_bias": {"120": 1000}}
    file.write_text(json.dumps({"messages": [], "sampling": rules, "max_new_tokens": 3}))
    for options, answered in (([], "xxx\n"), (["--max-new-tokens", "5"], "xxxxx\n")):
        arguments = ["chat", str(directory), "--load", str(file), *options]
        assert CliRunner().invoke(build_app("chat"), arguments, input="hi\n").stdout == answered


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [[], ["--dtype", "float32"], ["--quantise", "int8"]])
def test_smollm2_knows_the_capital_of_france(
    smollm2: Path, dtype: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the name alone starts it, but for the seed."""
    monkeypatch.setattr("stemma.hub.find_model", lambda name: smollm2)
    result = CliRunner().invoke(
        build_app("chat"),
        ["chat", "smollm2", "--set", "seed=1", *dtype],
        input="What is the capital of France?\nAnd of Italy?\n",
    )
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if line] == [
        "The capital of France is Paris.",
        "The capital of Italy is Rome.",
    ]
    assert read_manners(smollm2, hub.load_tokenizer(smollm2)).eos == (2,)


def test_a_question_without_any_answer_is_taken_back() -> None:
    class Interrupted(Counting):
        def next_log_probs(self, ids: Tensor) -> Tensor:
            raise KeyboardInterrupt

    session = Session(Interrupted())
    assert "interrupted" in session.say("hi")
    assert session.chat.messages == []
