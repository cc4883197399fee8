"""What must hold for every chat template, on random conversations with the six of the mirror.

The tokens marked as the assistant's are what it said and the token that ends its turn; the ids of a
conversation begin with those of its beginning; and no text of others becomes a special token.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, gpt2
from stemma.tokenizers.chat.template import CHATML, ChatTemplate
from stemma.tokenizers.special import AddedToken

Messages = list[dict[str, Any]]


class Family(NamedTuple):
    """A template's special tokens: the first begins a text, the last ends a turn."""

    names: tuple[str, ...]
    extends: bool = True
    system: bool = True


FAMILIES = {
    "HuggingFaceTB-SmolLM3-3B": Family(("<|im_start|>", "<|im_end|>")),
    "Qwen-Qwen2.5-7B-Instruct": Family(("<|im_start|>", "<|im_end|>")),
    "google-gemma-2-2b-it": Family(("<bos>", "<start_of_turn>", "<end_of_turn>"), system=False),
    "meta-llama-Llama-3.2-3B-Instruct": Family(
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    ),
    # Ends every conversation with </s>, which is not there when it goes on.
    "microsoft-Phi-3.5-mini-instruct": Family(
        ("<s>", "<|system|>", "<|user|>", "<|assistant|>", "</s>", "<|end|>"), extends=False
    ),
    # Puts the system message into the last message, wherever that is.
    "mistralai-Mistral-Nemo-Instruct-2407": Family(
        ("<s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "</s>"), system=False
    ),
}
WORDS = ["Hi", " ", "\n", "\n\n", "ü", "👍🏽", ".", "12", "{{ x }}", "{% y %}", "'\"", "\\n", "\t"]


@cache
def tokenizer_with(names: tuple[str, ...]) -> ByteLevelBPE:
    base = gpt2()
    spellings = [base.token_bytes(i) for i in range(base.vocab_size)]
    added = [AddedToken("<|endoftext|>", base.vocab_size - 1)]
    added += [AddedToken(name, base.vocab_size + i) for i, name in enumerate(names)]
    return ByteLevelBPE([*spellings, *(name.encode() for name in names)], base.merges, added)


@pytest.fixture(params=[*FAMILIES, "chatml"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def family(name: str) -> Family:
    return FAMILIES.get(name, Family(("<|im_start|>", "<|im_end|>")))


@pytest.fixture
def template(name: str, family: Family, mirror: Callable[[str], Path]) -> ChatTemplate:
    if name == "chatml":
        return ChatTemplate(CHATML)
    source = mirror(f"tokenizers/chat-templates/{name}.jinja").read_text("utf-8")
    special = {"bos_token": family.names[0], "eos_token": "</s>"}
    return ChatTemplate(source, special, now=lambda: datetime(2024, 7, 26))


def conversations(
    family: Family, n: int, seed: int, words: Sequence[str] = WORDS
) -> Iterator[Messages]:
    """User and assistant in turn, sometimes after a system message."""
    r = random.Random(seed)
    for _ in range(n):
        messages = [{"role": "system", "content": ""}] if family.system and r.random() < 0.5 else []
        for turn in range(r.randint(1, 7)):
            messages.append({"role": ("user", "assistant")[turn % 2], "content": ""})
        yield [{**m, "content": "".join(r.choices(words, k=r.randint(0, 6)))} for m in messages]


def runs(mask: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def test_the_mask_is_what_the_assistant_said(template: ChatTemplate, family: Family) -> None:
    """With its end of turn; some templates strip the text."""
    tokenizer = tokenizer_with(family.names)
    for messages in conversations(family, 150, seed=1):
        ids, mask = template.encode_with_mask(tokenizer, messages, cut_turns=True)
        assert tokenizer.decode(ids) == template.render(messages)
        turns = [tokenizer.decode(ids[a:b]) for a, b in runs(mask)]
        said = [m["content"] for m in messages if m["role"] == "assistant"]
        assert len(turns) == len(said), (turns, said)
        for turn, text in zip(turns, said, strict=True):
            assert turn.endswith(family.names[-1])
            answer = turn.removesuffix(family.names[-1])
            assert answer in (text, text.strip(), text.lstrip("\n"), f" {text}")


def test_a_conversation_begins_with_its_beginning(template: ChatTemplate, family: Family) -> None:
    tokenizer = tokenizer_with(family.names)
    checked = broken = 0
    for messages in conversations(family, 60, seed=2):
        first = 1 + (messages[0]["role"] == "system")
        for n in range(first, len(messages) + 1):
            found = template.extends(tokenizer, messages[:n], messages, cut_turns=True)
            checked += 1
            broken += not found
            assert found or not family.extends, (messages, n, str(found))
    assert checked > 100
    assert (broken > 0) == (not family.extends)


def test_no_text_of_others_becomes_a_special_token(template: ChatTemplate, family: Family) -> None:
    """Whole names, halves of names that might meet, and every name in every message."""
    tokenizer = tokenizer_with(family.names)
    names = [*family.names, "<|endoftext|>"]
    special = [*tokenizer.special_tokens.values()]
    halves = [half for name in names for half in (name[:-2], name[-2:], name[:1], name[1:])]
    found = 0
    for messages in conversations(family, 150, 3, [*names, *halves, " ", "\n", "x"]):
        harmless = [{**m, "content": "x" * bool(m["content"])} for m in messages]
        expected = [i for i in template.encode(tokenizer, harmless).tolist() if i in special]
        ids = template.encode(tokenizer, messages).tolist()
        assert [i for i in ids if i in special] == expected
        assert tokenizer.decode(ids) == template.render(messages)
        same, mask = template.encode_with_mask(tokenizer, messages)
        assert same.tolist() == ids
        assert len(runs(mask)) == sum(m["role"] == "assistant" for m in messages)
        trusted = template.encode(tokenizer, messages, allow_special_in_content=True).tolist()
        found += sum(i in special for i in trusted) - len(expected)
    assert found > 300, "the attacks were none"


def test_a_role_makes_no_special_token_by_itself() -> None:
    """Templates make names of roles (``<|`` + role + ``|>``), so that a word counts as theirs."""
    tokenizer = tokenizer_with(("<|user|>", "<|im_start|>", "<|im_end|>"))
    special = tokenizer.special_tokens
    made = ChatTemplate("{{ '<|' + messages[0].role + '|>' }}")
    assert made.encode(tokenizer, [{"role": "user"}]).tolist() == [special["<|user|>"]]
    for role in ("user<|im_end|>", "<|im_end|>", "im_end|><|im_start", "user|>", ""):
        messages = [{"role": role, "content": "x"}]
        for template in (made, ChatTemplate(CHATML)):
            try:
                ids = template.encode(tokenizer, messages).tolist()
            except TokenizerError:
                continue
            expected = ["<|im_start|>", "<|im_end|>"] if template is not made else []
            names = {id_: name for name, id_ in special.items()}
            assert [names[i] for i in ids if i in names] == expected, role
