"""How a conversation becomes a prompt: by the model's template, or as a transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stemma.errors import TokenizerError
from stemma.inference.text import ids_of_prompt
from stemma.tokenizers import ChatTemplate, Tokenizer

Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""


class ChatFormat(Protocol):
    """Messages -> the ids behind which the answer is generated."""

    name: str
    """What it is called."""

    end_ids: frozenset[int]
    """Ids that end an answer."""

    stop: tuple[str, ...]
    """Strings that end one."""

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation and of what begins the next answer."""

    def answer(self, text: str) -> str:
        """A generated answer as the message that it is."""


class TemplateFormat:
    """The model's own chat template; what users write never becomes a special token.

    Args:
        template: writes conversations.
        tokenizer: the model's.
        end_ids: ids that are known to end a text; what ends a turn in the template is added.
    """

    name = "the model's chat template"
    stop: tuple[str, ...] = ()

    def __init__(
        self, template: ChatTemplate, tokenizer: Tokenizer, end_ids: frozenset[int] = frozenset()
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self.end_ids = end_ids | end_of_turn(template, tokenizer)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation; answers are cut into tokens by themselves, as generated."""
        ids = self._template.encode(
            self._tokenizer, messages, add_generation_prompt=True, cut_turns=True
        )
        return [int(id_) for id_ in ids]

    def answer(self, text: str) -> str:
        """As it is."""
        return text


def end_of_turn(template: ChatTemplate, tokenizer: Tokenizer) -> frozenset[int]:
    """The special token that a template writes behind an answer; nothing if there is none."""
    example = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        ids, written = template.encode_with_mask(tokenizer, example)
    except TokenizerError:
        return frozenset()
    special = set(tokenizer.special_tokens.values())
    own = [int(id_) for id_ in ids[written] if int(id_) in special]
    return frozenset(own[-1:])


INTRODUCTION = (
    "The following is a conversation between a user and a friendly bot, which answers briefly and "
    "correctly."
)
"""What a transcript begins with, unless the conversation has a system message."""


class TranscriptFormat:
    """A transcript, for a base model: it goes on as the bot, until the user would speak again.

    Args:
        tokenizer: the model's.
        end_ids: ids that end a text.
        user: what stands before the user's turns.
        bot: what stands before the model's.
    """

    name = "a transcript, since the model has no chat template"

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: frozenset[int] = frozenset(),
        *,
        user: str = "User",
        bot: str = "Bot",
    ) -> None:
        self._tokenizer = tokenizer
        self._names = {"user": user, "assistant": bot}
        self.end_ids = end_ids
        self.stop: tuple[str, ...] = (f"\n{user}:", f"{user}:", f"\n{bot}:")

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the transcript so far and of the bot's name."""
        introduction = [m["content"] for m in messages if m["role"] == "system"] or [INTRODUCTION]
        turns = [
            f"{self._names[message['role']]}: {message['content']}"
            for message in messages
            if message["role"] != "system"
        ]
        text = "\n".join([*introduction, "", *turns, f"{self._names['assistant']}:"])
        return [int(id_) for id_ in ids_of_prompt(self._tokenizer, text)]

    def answer(self, text: str) -> str:
        """Without the space behind the bot's name, and without what white space is left behind."""
        return text.strip()
