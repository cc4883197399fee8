"""A text as its tokens, each with what can be said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stemma.tokenizers.special import AllowedSpecial
from stemma.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A token in a text.

    Args:
        id: its id.
        spelling: its bytes, as the vocabulary writes them.
        start: where the bytes of the text that it stands for begin ...
        end: ... and end.
        special: whether it is a special token.
    """

    id: int
    spelling: bytes
    start: int
    end: int
    special: bool = False


@dataclass(frozen=True)
class Cut:
    """A text and its tokens.

    Args:
        tokenizer: the tokenizer's name.
        text: the text.
        tokens: its tokens, in order.
    """

    tokenizer: str
    text: str
    tokens: tuple[Token, ...]

    @property
    def n_bytes(self) -> int:
        """The length of the text in UTF-8."""
        return len(self.text.encode())

    def to_json(self) -> dict[str, Any]:
        """Plain data: bytes that are no text stand as U+FFFD in ``token``, exactly in ``bytes``."""
        return {
            "tokenizer": self.tokenizer,
            "text": self.text,
            "tokens": [
                {
                    "id": token.id,
                    "token": token.spelling.decode(errors="replace"),
                    "bytes": token.spelling.hex(),
                    "start": token.start,
                    "end": token.end,
                    "special": token.special,
                }
                for token in self.tokens
            ],
        }


def cut(tokenizer: Tokenizer, text: str, *, name: str, allowed_special: AllowedSpecial = ()) -> Cut:
    """Cut a text.

    Args:
        tokenizer: what cuts it.
        text: the text.
        name: what to call the tokenizer.
        allowed_special: see `Tokenizer.encode`.

    Raises:
        TokenizerError: see `Tokenizer.encode`.
    """
    ids, spans = tokenizer.encode_with_offsets(text, allowed_special=allowed_special)
    special = {*tokenizer.special_tokens.values()}
    tokens = (
        Token(id_, tokenizer.token_bytes(id_), start, end, id_ in special)
        for id_, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True)
    )
    return Cut(name, text, tuple(tokens))
