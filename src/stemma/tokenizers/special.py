"""Special tokens: ids that stand for no text, found in a text only where the caller allows it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from stemma.errors import TokenizerError

END_OF_TEXT = "<|endoftext|>"
"""The mark between two documents."""

AllowedSpecial = Literal["all"] | Collection[str]


class SpecialTokens:
    """The special tokens of one tokenizer.

    Args:
        ids: spelling -> id.

    Raises:
        TokenizerError: if a spelling is empty or two share one id.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        if "" in ids:
            raise TokenizerError("a special token is spelled as the empty string")
        if len(set(ids.values())) != len(ids):
            raise TokenizerError(f"two special tokens share one id: {dict(ids)}")
        self.ids = dict(ids)

    def split(self, text: str, allowed: AllowedSpecial) -> Iterator[str | int]:
        """Cut ``text`` into ordinary parts (strings) and allowed special tokens (ids), in order.

        Where one spelling begins another, the longer one is found.

        Raises:
            TokenizerError: if ``allowed`` names a token that does not exist.
        """
        names = self.ids.keys() if allowed == "all" else {*allowed}
        if unknown := sorted(names - self.ids.keys()):
            raise TokenizerError(
                f"no such special token: {unknown[0]!r}",
                where="allowed_special",
                cure=f"The special tokens here are: {', '.join(self.ids) or '(none)'}.",
            )
        if not names:
            yield text
            return
        longest_first = sorted(names, key=len, reverse=True)
        pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        for i, part in enumerate(pattern.split(text)):
            if i % 2:
                yield self.ids[part]
            elif part:
                yield part
