"""Conversations -> ids: chat templates, and which of the tokens the assistant wrote.

A model that chats was trained on conversations written in one certain way. Its template, a Jinja
program in the model's directory, writes them so. Here are three things that a template by itself
does not promise:

- what a user writes never becomes a special token, whatever it looks like (`ChatTemplate.encode`);
- which tokens are the assistant's, to train on them alone (`ChatTemplate.encode_with_mask`);
- the ids of a conversation begin with those of its beginning, which a cache of keys and values
  relies on: see ``cut_turns``, and `ChatTemplate.extends` to see where a template breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.files import TEMPLATE_FILE, find_template
from stemma.tokenizers.chat.text import CALLER, AuthoredText, authored, authored_message, authors_of

if TYPE_CHECKING:
    from jinja2 import Template

    from stemma.tokenizers.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""``role`` (system, user, assistant, tool), ``content``, and what else the template reads."""

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""OpenAI's chat markup language, which many models use: the template for a model of one's own."""


@dataclass(frozen=True)
class Extension:
    """Whether the ids of a longer conversation begin with those of a shorter one.

    Args:
        holds: whether they do.
        at: how many ids are the same.
        shorter: the text of the shorter conversation from the first different id on; at most 40
            characters.
        longer: the same of the longer one.
    """

    holds: bool
    at: int
    shorter: str = ""
    longer: str = ""

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        if self.holds:
            return f"the longer conversation begins with the {self.at} ids of the shorter one"
        return (
            f"the conversations part after {self.at} ids: the shorter one goes on with "
            f"{self.shorter!r}, the longer one with {self.longer!r}"
        )


class ChatTemplate:
    """A chat template.

    Args:
        source: the Jinja source.
        special: what the template reads as ``bos_token``, ``eos_token``, ...: name -> text.
        now: the clock for templates that write the date.

    Raises:
        TokenizerError: if the source is not a template.
    """

    def __init__(
        self,
        source: str,
        special: Mapping[str, str] | None = None,
        *,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self.special = dict(special or {})
        self._now = now
        self._template  # noqa: B018 - a damaged template is refused at once

    @classmethod
    def from_file(cls, path: str | Path, name: str = "default") -> Self:
        """Read the template of a model's directory, of a GGUF file, or a Jinja file.

        Args:
            path: where to look, see `chat.files.find_template`.
            name: which one, where a directory has several (``default``, ``tool_use``).

        Raises:
            TokenizerError: if there is none, or a file is damaged.
        """
        return cls(*find_template(Path(path), name))

    def save(self, directory: str | Path) -> Path:
        """Write ``chat_template.jinja`` where `transformers`, vLLM and `from_file` find it."""
        path = Path(directory) / TEMPLATE_FILE
        path.write_text(self.source, encoding="utf-8")
        return path

    @cached_property
    def marks_generation(self) -> bool:
        """Whether the template itself says what the assistant writes (``{% generation %}``)."""
        from jinja2 import nodes

        tree = self._template.environment.parse(self.source)
        calls = tree.find_all(nodes.ExtensionAttribute)
        return any(call.identifier.endswith("GenerationExtension") for call in calls)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as text.

        Args:
            messages: the conversation.
            add_generation_prompt: end with what begins the assistant's next turn.
            tools: functions that the assistant may call, as JSON schemas.
            variables: what else the template reads (``enable_thinking``, ``date_string``, ...).

        Raises:
            TokenizerError: if the template refuses the conversation, or fails.
        """
        text = self._written(messages, add_generation_prompt, tools, variables)
        return str.__str__(text)

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        allow_special_in_content: bool = False,
        cut_turns: bool = False,
        **variables: Any,
    ) -> NDArray[np.int32]:
        """Ids of the conversation.

        They are those of the rendered text, but that a special token is found only where the
        template wrote all of its characters: in a message, a tool or a variable its name is plain
        text. A role that is one word counts as the template's.

        Args:
            tokenizer: the model's tokenizer.
            messages: see `render`.
            add_generation_prompt: see `render`.
            tools: see `render`.
            allow_special_in_content: find special tokens anywhere; for trusted text only.
            cut_turns: let no token join the prompt and the assistant's answer, as none does when
                the answer is generated. The rendered text as a whole may be cut otherwise there:
                a newline of the template and one of the answer can be one token.
            variables: see `render`.

        Raises:
            TokenizerError: see `render`; also if a special token's name stands where the template
                has mixed its own text with others' in a way that cannot be followed.
        """
        from stemma.tokenizers.chat.encode import encode_authored
        from stemma.tokenizers.chat.turns import turn_cuts

        text = self._written(messages, add_generation_prompt, tools, variables)
        cuts = turn_cuts(text, messages) if cut_turns else []
        return encode_authored(tokenizer, text, trust_all=allow_special_in_content, cuts=cuts)

    def encode_with_mask(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        allow_special_in_content: bool = False,
        cut_turns: bool = False,
        **variables: Any,
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Ids of the conversation, and which of them the assistant wrote.

        That is what stands in the template's ``{% generation %}`` blocks. A template without such
        blocks is asked what it writes before each of the assistant's turns: what follows is the
        assistant's, up to the special token that ends the turn, that token included. A token is the
        assistant's if any of its characters is.

        Returns:
            ids and mask, both of shape (n,).

        Raises:
            TokenizerError: see `encode`; also if a turn's beginning cannot be found.
        """
        from stemma.tokenizers.chat.encode import encode_authored_with_spans, mask_of
        from stemma.tokenizers.chat.turns import (
            assistant_characters,
            marked_characters,
            turn_cuts,
        )

        def write(part: Sequence[Message], prompt: bool) -> AuthoredText:
            return self._written(part, prompt, tools, variables)

        text = write(messages, False)
        cuts = turn_cuts(text, messages) if cut_turns else []
        ids, spans = encode_authored_with_spans(
            tokenizer, text, trust_all=allow_special_in_content, cuts=cuts
        )
        if self.marks_generation:
            written = marked_characters(text)
        else:
            written = assistant_characters(text, messages, [*tokenizer.special_tokens], write)
        return ids, mask_of(written, spans)

    def extends(
        self,
        tokenizer: Tokenizer,
        shorter: Sequence[Message],
        longer: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        cut_turns: bool = False,
        **variables: Any,
    ) -> Extension:
        """Whether the ids of ``longer`` begin with those of ``shorter``.

        Where the assistant speaks next in ``longer``, the generation prompt belongs to ``shorter``.

        Raises:
            TokenizerError: see `encode`; also if ``longer`` does not begin with ``shorter``.
        """
        if list(longer[: len(shorter)]) != list(shorter):
            raise TokenizerError("the longer conversation does not begin with the shorter one")
        following = longer[len(shorter) :]
        prompt = bool(following) and following[0].get("role") == "assistant"
        options: dict[str, Any] = {"tools": tools, "cut_turns": cut_turns, **variables}
        first = self.encode(tokenizer, shorter, add_generation_prompt=prompt, **options)
        second = self.encode(tokenizer, longer, **options)
        n = min(len(first), len(second))
        different = np.flatnonzero(first[:n] != second[:n])
        at = int(different[0]) if different.size else n
        if at == len(first):
            return Extension(True, at)
        rest = (tokenizer.decode(ids[at : at + 40])[:40] for ids in (first, second))
        return Extension(False, at, *rest)

    @cached_property
    def _template(self) -> Template:
        from jinja2 import TemplateSyntaxError

        from stemma.tokenizers.chat.sandbox import ChatEnvironment

        try:
            return ChatEnvironment(self._now).from_string(self.source)
        except TemplateSyntaxError as error:
            raise TokenizerError(
                f"is not a Jinja template: {error.message}",
                where=f"chat template, line {error.lineno}",
            ) from None

    def _written(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
    ) -> AuthoredText:
        from stemma.tokenizers.chat.sandbox import refuse

        values = {
            **self.special,
            **{
                # A special token that is given as a variable is meant to be one.
                key: value if key.endswith("_token") else authored(value, CALLER, key)
                for key, value in variables.items()
            },
            "messages": [authored_message(message, i) for i, message in enumerate(messages)],
            "tools": None if tools is None else authored(list(tools), CALLER, "tools"),
            "documents": authored(variables.get("documents"), CALLER, "documents"),
            "add_generation_prompt": add_generation_prompt,
        }
        environment: Any = self._template.environment
        with environment.counting():
            try:
                text = self._template.render(values)
            except Exception as error:
                # A template can raise whatever Python can.
                refuse(error)
        return AuthoredText(text, authors_of(text))
