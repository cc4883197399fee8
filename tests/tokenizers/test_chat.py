from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, gpt2
from stemma.tokenizers.chat.template import CHATML, ChatTemplate
from stemma.tokenizers.special import AddedToken

FAMILIES = {
    "HuggingFaceTB-SmolLM3-3B": ["<|im_start|>", "<|im_end|>"],
    "Qwen-Qwen2.5-7B-Instruct": ["<|im_start|>", "<|im_end|>"],
    "google-gemma-2-2b-it": ["<bos>", "<start_of_turn>", "<end_of_turn>"],
    "meta-llama-Llama-3.2-3B-Instruct": [
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    "microsoft-Phi-3.5-mini-instruct": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    "mistralai-Mistral-Nemo-Instruct-2407": ["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"],
}
BEGIN = {"google-gemma-2-2b-it": "<bos>", "meta-llama-Llama-3.2-3B-Instruct": "<|begin_of_text|>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says <b>how</b> it is in Köln.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WORDS = [
    "Hi",
    " ",
    "\n\n",
    "ü",
    "🙂",
    "<think>",
    "/no_think",
    "'\"",
    "{{ x }}",
    "12",
    "<|",
    "|>",
    "[",
    "]",
]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(family: str, mirror: Callable[[str], Path]) -> ChatTemplate:
    source = mirror(f"tokenizers/chat-templates/{family}.jinja").read_text("utf-8")
    special = {"bos_token": BEGIN.get(family, "<s>"), "eos_token": "</s>"}
    return ChatTemplate(source, special, now=lambda: datetime(2024, 7, 26))


def tokenizer_with(names: list[str], *more: AddedToken) -> ByteLevelBPE:
    """GPT-2's tokenizer with further tokens."""
    return _tokenizer_with(tuple(names), more)


@cache
def _tokenizer_with(names: tuple[str, ...], more: tuple[AddedToken, ...]) -> ByteLevelBPE:
    base = gpt2()
    spellings = [base.token_bytes(i) for i in range(base.vocab_size)]
    added = [AddedToken("<|endoftext|>", base.vocab_size - 1)]
    added += [AddedToken(name, base.vocab_size + i) for i, name in enumerate(names)]
    spellings += [name.encode() for name in (*names, *(token.content for token in more))]
    return ByteLevelBPE(spellings, base.merges, [*added, *more])


def conversations(n: int, seed: int) -> list[list[dict[str, Any]]]:
    """Conversations of all the shapes that the six templates know, and some that they refuse."""
    r = random.Random(seed)

    def words() -> str:
        return "".join(r.choice(WORDS) for _ in range(r.randint(0, 6)))

    made = []
    for _ in range(n):
        messages = [{"role": "system", "content": words()}] if r.random() < 0.5 else []
        for turn in range(r.randint(1, 7)):
            role = "assistant" if turn % 2 else "user"
            messages.append({"role": r.choice([role] * 9 + ["system"]), "content": words()})
            if role == "assistant" and r.random() < 0.3:
                call = {"name": "weather", "arguments": {"city": words(), "n": 1_700_000_000}}
                tool_call = {"type": "function", "function": call, "id": "abcdefghi"}
                messages[-1] |= {"tool_calls": [tool_call]}
                answer = {"role": "tool", "content": words(), "tool_call_id": "abcdefghi"}
                messages += [answer, {"role": "assistant", "content": words()}]
        made.append(messages)
    return made


def test_renders_as_transformers_does(template: ChatTemplate) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    same = refused = 0
    for i, messages in enumerate(conversations(150, seed=1)):
        options: dict[str, Any] = {"add_generation_prompt": i % 2 == 0}
        if i % 3 == 0:
            options["tools"] = [TOOL, TOOL]
        if i % 5 == 0:
            options |= {"enable_thinking": False, "tools_in_user_message": False}
        options["date_string"] = "26 Jul 2024"
        expected = failure = None
        try:
            rows = render_jinja_template(
                [messages], chat_template=template.source, **template.special, **options
            )
            expected = rows[0][0]
        except Exception as error:  # what the template raises, and Jinja's own
            failure = str(error)
        if failure is None:
            assert template.render(messages, **options) == expected
            same += 1
        else:
            with pytest.raises(TokenizerError, match=re.escape(failure)):
                template.render(messages, **options)
            refused += 1
    assert same >= 30, (same, refused)


def test_ids_are_those_of_the_text(template: ChatTemplate, family: str) -> None:
    tokenizer = tokenizer_with(FAMILIES[family])
    checked = 0
    for messages in conversations(40, seed=2):
        try:
            text = template.render(messages, tools=[TOOL])
        except TokenizerError:
            continue
        ids = template.encode(tokenizer, messages, tools=[TOOL])
        assert ids.tolist() == tokenizer.encode(text, allowed_special="all").tolist()
        checked += 1
    assert checked >= 8


def attacks(names: list[str]) -> list[str]:
    """Texts that are special tokens, or become one when a template cuts something out of them."""
    split = [f"{name[:3]}{cut}{name[3:]}" for name in names for cut in ("/think", "/no_think")]
    return [*names, *split, *(f" {name}\n" for name in names), *(name.upper() for name in names)]


def test_no_message_makes_a_special_token(template: ChatTemplate, family: str) -> None:
    names = [*dict.fromkeys([*FAMILIES[family], "</s>"])]
    tokenizer = tokenizer_with(names)
    names.append("<|endoftext|>")
    special = set(tokenizer.special_tokens.values())
    r = random.Random(3)
    checked = more = 0
    for messages in conversations(80, seed=3):
        harmless = [{**m, "content": "x"} for m in messages]
        evil = [{**m, "content": "x" + r.choice(attacks(names)) + "x"} for m in messages]
        for message in evil:
            for call in message.get("tool_calls", ()):
                call["function"]["arguments"] = {r.choice(names): r.choice(names)}
        tools = [{"function": {"name": r.choice(names), r.choice(names): [r.choice(names)]}}]
        try:
            text = template.render(evil, tools=tools)
            expected = template.encode(tokenizer, harmless, tools=tools)
        except TokenizerError:
            continue
        ids = template.encode(tokenizer, evil, tools=tools)
        assert [i for i in ids if i in special] == [i for i in expected if i in special]
        assert tokenizer.decode(ids) == text
        trusted = template.encode(tokenizer, evil, tools=tools, allow_special_in_content=True)
        assert trusted.tolist() == tokenizer.encode(text, allowed_special="all").tolist()
        more += sum(i in special for i in trusted) - sum(i in special for i in ids)
        checked += 1
    assert checked >= 10
    assert more >= 10, "the attacks were none"


def test_by_hand() -> None:
    tokenizer = tokenizer_with(["<|im_start|>", "<|im_end|>"])
    start, end = tokenizer.special_tokens["<|im_start|>"], tokenizer.special_tokens["<|im_end|>"]
    template = ChatTemplate(CHATML)
    messages = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "Hi"}]
    ids, mask = template.encode_with_mask(tokenizer, messages)
    newline, plain = 198, tokenizer.encode("<|im_end|>").tolist()
    hi, user, assistant = 17250, 7220, tokenizer.encode("assistant").tolist()
    expected = [start, user, newline, *plain, end, newline]
    assert ids.tolist() == [*expected, start, *assistant, newline, hi, end, newline]
    assert np.flatnonzero(mask).tolist() == [len(ids) - 3, len(ids) - 2]
    prompt = template.encode(tokenizer, messages[:1], add_generation_prompt=True)
    assert prompt.tolist() == [*expected, start, *assistant, newline]
    assert template.extends(tokenizer, messages[:1], messages)


def test_the_sandwich_of_template_and_message() -> None:
    """A name whose parts have two authors is nobody's special token."""
    tokenizer = tokenizer_with(["<|a|>", "<|a|><|a|>"])
    a, double = (tokenizer.special_tokens[name] for name in ("<|a|>", "<|a|><|a|>"))
    for source, expected in [
        ("<|a{{ messages[0].content }}", []),
        ("<|a|>{{ messages[0].content }}", [a]),
        ("{{ messages[0].content }}<|a|>", [a]),
        ("<|a|><|a|>{{ messages[0].content }}", [double]),
        ("{{ messages[0].content }}<|a|><|a|>", [double]),
    ]:
        for content in ("|>", "<|a|>", "<|a|><|a|>", "<|"):
            ids = ChatTemplate(source).encode(tokenizer, [{"role": "user", "content": content}])
            assert [i for i in ids if i in (a, double)] == expected, (source, content)


def test_white_space_around_blocks_is_the_templates_layout() -> None:
    source = "  {% if true %}\n  a\n  {% endif %}\nb {# c #}\n{{ 1 }}\n"
    assert ChatTemplate(source).render([]) == "  a\nb 1"


def test_a_special_token_given_as_a_variable_is_one() -> None:
    tokenizer = tokenizer_with(["<s>"])
    template = ChatTemplate("{{ bos_token }}{{ other }}", {"bos_token": "x"})
    ids = template.encode(tokenizer, [], bos_token="<s>", other="<s>")
    assert ids.tolist() == [tokenizer.special_tokens["<s>"], *tokenizer.encode("<s>").tolist()]


def test_no_cut_goes_through_an_added_token() -> None:
    n = gpt2().vocab_size
    tokenizer = tokenizer_with([], AddedToken("<t>", n, special=False))
    template = ChatTemplate("a<{{ messages[0].content }}")
    messages = [{"role": "assistant", "content": "t>b"}]
    expected = [*tokenizer.encode("a"), n, *tokenizer.encode("b")]
    assert template.encode(tokenizer, messages, cut_turns=True).tolist() == expected


def test_what_cannot_be_told_apart_is_refused() -> None:
    tokenizer = tokenizer_with(["<|a|>"])
    template = ChatTemplate("{{ '<|a|>%s' % messages[0].content }}")
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(TokenizerError, match=r"cannot tell whether .*'<\|a\|>'"):
        template.encode(tokenizer, messages)
    assert len(template.encode(tokenizer, messages, allow_special_in_content=True)) == 2


def test_added_tokens_of_other_kinds() -> None:
    n = gpt2().vocab_size
    tokenizer = tokenizer_with(
        [],
        AddedToken("<t>", n, special=False),
        AddedToken("<l>", n + 1, lstrip=True, rstrip=True),
        AddedToken("<w>", n + 2, single_word=True),
        AddedToken("<n>", n + 3, normalized=True),
    )
    template = ChatTemplate("{{ messages[0].content }} <l> x<w> <w>.<n>")
    messages = [{"role": "user", "content": "a<t><l><w><n>"}]
    text = template.render(messages)
    special = [*range(n, n + 4)]
    ids = template.encode(tokenizer, messages).tolist()
    assert [i for i in ids if i in special] == [n, n + 1, n + 2, n + 3]
    trusted = template.encode(tokenizer, messages, allow_special_in_content=True).tolist()
    assert trusted == tokenizer.encode(text, allowed_special="all").tolist()


GENERATION = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}
    {%- else %}{{- message.content + '<|im_end|>' }}{% endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""


def test_mask_of_generation_blocks_is_that_of_transformers(mirror: Callable[[str], Path]) -> None:
    from transformers import PreTrainedTokenizerFast

    file = str(mirror("tokenizers/gpt2/tokenizer.json"))
    names = ["<|im_start|>", "<|im_end|>"]
    theirs = PreTrainedTokenizerFast(tokenizer_file=file)
    theirs.add_special_tokens({"additional_special_tokens": names})
    ours = tokenizer_with(names)
    for messages in conversations(60, seed=4):
        # A character of several tokens counts there with its first token only: hence no emoji.
        chat = [{"role": m["role"], "content": m["content"].replace("🙂", "")} for m in messages]
        expected = theirs.apply_chat_template(
            chat, chat_template=GENERATION, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = ChatTemplate(GENERATION).encode_with_mask(ours, chat)
        assert ids.tolist() == expected["input_ids"]
        assert mask.astype(int).tolist() == expected["assistant_masks"]


def test_mask_without_generation_blocks_is_the_same() -> None:
    tokenizer = tokenizer_with(["<|im_start|>", "<|im_end|>"])
    plain = GENERATION.replace("{%- generation %}", "").replace("{% endgeneration %}", "")
    assert not ChatTemplate(plain).marks_generation
    n_written = 0
    for messages in conversations(100, seed=5):
        ids, mask = ChatTemplate(GENERATION).encode_with_mask(tokenizer, messages)
        for source in (plain, CHATML):
            same_ids, derived = ChatTemplate(source).encode_with_mask(tokenizer, messages)
            assert ids.tolist() == same_ids.tolist()
            assert mask.tolist() == derived.tolist()
        n_written += int(mask.sum())
    assert n_written > 500


def runs(mask: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


END = {
    "HuggingFaceTB-SmolLM3-3B": "<|im_end|>",
    "Qwen-Qwen2.5-7B-Instruct": "<|im_end|>",
    "google-gemma-2-2b-it": "<end_of_turn>",
    "meta-llama-Llama-3.2-3B-Instruct": "<|eot_id|>",
    "microsoft-Phi-3.5-mini-instruct": "<|end|>",
    "mistralai-Mistral-Nemo-Instruct-2407": "</s>",
}


@pytest.mark.parametrize("system", [False, True])
def test_mask_of_the_six_families(template: ChatTemplate, family: str, system: bool) -> None:
    names = dict.fromkeys([*FAMILIES[family], "</s>"])
    tokenizer = tokenizer_with([*names])
    said = ["Yes.", "No ü.", "Perhaps."]
    messages = [{"role": "system", "content": "Be kind."}] * (
        system and family != "google-gemma-2-2b-it"
    )
    for answer in said:
        messages += [{"role": "user", "content": f"Say: {answer}"}]
        messages += [{"role": "assistant", "content": answer}]
    ids, mask = template.encode_with_mask(tokenizer, messages)
    turns = [tokenizer.decode(ids[a:b]) for a, b in runs(mask)]
    assert turns == [answer + END[family] for answer in said]


def test_mask_of_tool_calls(mirror: Callable[[str], Path]) -> None:
    family = "Qwen-Qwen2.5-7B-Instruct"
    source = mirror(f"tokenizers/chat-templates/{family}.jinja").read_text("utf-8")
    tokenizer = tokenizer_with(FAMILIES[family])
    call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Wet."},
        {"role": "assistant", "content": "Wet."},
    ]
    ids, mask = ChatTemplate(source).encode_with_mask(tokenizer, messages, tools=[TOOL])
    turns = [tokenizer.decode(ids[a:b]) for a, b in runs(mask)]
    body = '{"name": "weather", "arguments": {"city": "Köln"}}'
    assert turns == [f"<tool_call>\n{body}\n</tool_call><|im_end|>", "Wet.<|im_end|>"]


def test_a_turn_that_cannot_be_found_is_refused() -> None:
    source = "{% if add_generation_prompt %}?{% else %}{{ messages | length }}{% endif %}"
    messages = [{"role": "assistant", "content": "x"}]
    with pytest.raises(TokenizerError, match=r"cannot tell where message 0.*\n.*generation"):
        ChatTemplate(source).encode_with_mask(gpt2(), messages)


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=20)),
        min_size=1,
        max_size=8,
    )
)
def test_chatml_extends_every_beginning(rows: list[tuple[str, str]]) -> None:
    tokenizer = tokenizer_with(["<|im_start|>", "<|im_end|>"])
    messages = [{"role": role, "content": text} for role, text in rows]
    for n in range(len(messages) + 1):
        assert ChatTemplate(CHATML).extends(tokenizer, messages[:n], messages, cut_turns=True)


def test_a_newline_that_joins_prompt_and_answer() -> None:
    tokenizer = tokenizer_with(["<|im_start|>", "<|im_end|>"])
    template, chat = ChatTemplate(CHATML), [{"role": "assistant", "content": "\n\nHi\n"}]
    assert str(template.extends(tokenizer, [], chat)) == (
        "the conversations part after 3 ids: the shorter one goes on with '\\n', "
        "the longer one with '\\n\\n\\nHi\\n<|im_end|>\\n'"
    )
    assert template.extends(tokenizer, [], chat, cut_turns=True)
    ids, mask = template.encode_with_mask(tokenizer, chat, cut_turns=True)
    assert tokenizer.decode(ids[mask]) == "\n\nHi\n<|im_end|>"
    assert ids.tolist() == template.encode(tokenizer, chat, cut_turns=True).tolist()


def test_where_templates_break_the_beginning(mirror: Callable[[str], Path]) -> None:
    """What is known of the six, with GPT-2's words.

    Phi ends a conversation with another token. Mistral puts the system message into the last
    message, if that is the user's. Llama's prompt ends with two newlines, which are one word of
    GPT-2's at the end of a text and two before a letter (Llama's own pattern keeps them together).
    """
    messages = [{"role": "system", "content": "Be kind."}]
    for i in range(3):
        messages += [
            {"role": "user", "content": f"Q{i}"},
            {"role": "assistant", "content": f"A{i}"},
        ]
    broken, cut_broken = {}, []
    for family, names in FAMILIES.items():
        source = mirror(f"tokenizers/chat-templates/{family}.jinja").read_text("utf-8")
        template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
        tokenizer = tokenizer_with([*dict.fromkeys([*names, "</s>"])])
        chat = messages[1:] if "gemma" in family else messages
        found = [
            (n, extension)
            for n in range(2, len(chat))
            if not (extension := template.extends(tokenizer, chat[:n], chat))
        ]
        if found:
            broken[family.split("-")[0]] = found
        cut = [template.extends(tokenizer, chat[:n], chat, cut_turns=True) for n in (2, 3, 4, 5)]
        cut_broken += [family.split("-")[0]] * (not all(cut))
    assert cut_broken == ["microsoft", "mistralai"]
    assert {family: [n for n, _ in found] for family, found in broken.items()} == {
        "meta": [2, 4, 6],
        "microsoft": [3, 5],
        "mistralai": [2, 4, 6],
    }
    explained = str(broken["microsoft"][0][1])
    assert "the shorter one goes on with '</s>', the longer one with '<|user|>" in explained
    with pytest.raises(TokenizerError, match="does not begin with"):
        ChatTemplate(CHATML).extends(gpt2(), messages[1:2], messages)


def test_where_templates_live(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no chat template here"):
        ChatTemplate.from_file(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    assert ChatTemplate.from_file(tmp_path).source == "old"
    config.write_text(
        json.dumps({"chat_template": "c", "bos_token": "<s>", "eos_token": {"content": "</s>"}})
    )
    template = ChatTemplate.from_file(tmp_path)
    assert (template.source, template.special) == ("c", {"bos_token": "<s>", "eos_token": "</s>"})
    rows = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    config.write_text(json.dumps({"chat_template": rows, "pad_token": None}))
    assert ChatTemplate.from_file(tmp_path).source == "d"
    assert ChatTemplate.from_file(tmp_path, "tool_use").source == "t"
    with pytest.raises(TokenizerError, match="There are: default, tool_use"):
        ChatTemplate.from_file(tmp_path, "rag")
    ChatTemplate("ü\n").save(tmp_path)
    assert ChatTemplate.from_file(tmp_path).source == "ü\n"
    config.write_text("{")
    with pytest.raises(TokenizerError, match="is damaged"):
        ChatTemplate.from_file(tmp_path)


def test_templates_in_other_files(tmp_path: Path) -> None:
    import gguf

    (tmp_path / "a.jinja").write_text("ü", encoding="utf-8")
    assert ChatTemplate.from_file(tmp_path / "a.jinja").source == "ü"
    for has_template in (False, True):
        path = tmp_path / f"{has_template}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_token_list(["<unk>", "<s>", "</s>"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(7)
        if has_template:
            writer.add_chat_template("{{ bos_token }}")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    template = ChatTemplate.from_file(tmp_path / "True.gguf")
    assert (template.source, template.render([])) == ("{{ bos_token }}", "<s>")
    assert template.special == {"bos_token": "<s>", "eos_token": "</s>"}
    with pytest.raises(TokenizerError, match="no chat template here"):
        ChatTemplate.from_file(tmp_path / "False.gguf")
    (tmp_path / "b.jinja").write_bytes(b"\xff")
    for name in ("b.jinja", "missing.jinja"):
        with pytest.raises(TokenizerError, match=r"cannot be read|is not UTF-8"):
            ChatTemplate.from_file(tmp_path / name)


def test_messages_that_are_none() -> None:
    template = ChatTemplate(CHATML)
    with pytest.raises(TokenizerError, match="message 1: is a str"):
        template.render([{"role": "user", "content": "x"}, "x"])  # type: ignore[list-item]
    with pytest.raises(TokenizerError, match="message 0, content: holds a bytes"):
        template.render([{"role": "user", "content": b"x"}])
    with pytest.raises(TokenizerError, match=r"has no attribute 'content'"):
        template.render([{"role": "user"}])
    with pytest.raises(TokenizerError, match="lone surrogate"):
        template.encode(gpt2(), [{"role": "user", "content": "\ud800"}])


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("chat_template.jinja", b"\xff", "is not UTF-8"),
        ("tokenizer_config.json", b'{"model": 1}', "no chat template here"),
        ("tokenizer_config.json", b'{"chat_template": [{"name": ["a"]}]}', "no chat template"),
    ],
)
def test_damaged_files_of_templates(tmp_path: Path, file: str, content: bytes, what: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(TokenizerError, match=what):
        ChatTemplate.from_file(tmp_path)
    if file.endswith(".json"):
        with pytest.raises(TokenizerError, match=what):
            ChatTemplate.from_file(tmp_path / file)
