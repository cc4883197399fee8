"""What is said where several texts are wanted and one is given."""

from __future__ import annotations

from stemma.errors import ModelError


def refuse_one_text(texts: object, name: str) -> None:
    """A string is a sequence too, of its characters; nobody means each of them.

    Raises:
        ModelError: if ``texts`` is a string.
    """
    if isinstance(texts, str):
        raise ModelError(
            f"{name} is one text, and several are wanted: {texts[:40]!r}",
            cure=f"Put it in a list: [{name}].",
        )
