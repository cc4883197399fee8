"""Reading one object of a JSON file so that nothing in it goes unread."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeVar

from stemma.errors import TokenizerError

NOTHING: tuple[Any, ...] = (None, False, "", 0, [], {})
"""Values by which a field asks for nothing."""

CURE = "Use the tokenizers library for this file, or a file without it."

_MISSING: Any = object()

T = TypeVar("T")


class Fields:
    """The fields of one object: each is asked for with the type that it must have.

    Args:
        values: what the file holds there.
        where: the object's place in the file, for messages.

    Raises:
        TokenizerError: if it is no object.
    """

    def __init__(self, values: Any, where: str) -> None:
        self.where = where
        if not isinstance(values, dict):
            raise TokenizerError(f"{where or 'the file'} is {shown(values)}, not an object")
        self._values: Mapping[str, Any] = values
        self._read: set[str] = set()

    def value(self, name: str, default: Any = _MISSING) -> Any:
        """Whatever the field holds."""
        self._read.add(name)
        found = self._values.get(name, default)
        if found is _MISSING:
            raise TokenizerError(f"{self._place(name)} is missing")
        return found

    @property
    def names(self) -> list[str]:
        """The names of all fields."""
        return [*self._values]

    @property
    def type(self) -> str:
        """The name in the field ``type``."""
        return self.text("type")

    def text(self, name: str, default: Any = _MISSING) -> str:
        """A string, without half a surrogate pair."""
        found = self.value(name, default)
        if not isinstance(found, str):
            self._wrong(name, found, "a string")
        try:
            found.encode()
        except UnicodeEncodeError:
            self._wrong(name, found, "text that UTF-8 can hold")
        return found

    def character(self, name: str) -> str:
        """A string of one character."""
        found = self.text(name)
        return found if len(found) == 1 else self._wrong(name, found, "one character")

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """True or false."""
        found = self.value(name, default)
        return found if isinstance(found, bool) else self._wrong(name, found, "true or false")

    def number(self, name: str, default: Any = _MISSING, *, least: int = 0) -> int:
        """An integer from ``least`` to 2^31 - 1."""
        found = self.value(name, default)
        if type(found) is not int or not least <= found < 1 << 31:
            self._wrong(name, found, f"an integer from {least} to 2^31 - 1")
        return found

    def choice(self, name: str, choices: Collection[str], default: Any = _MISSING) -> Any:
        """One of several strings."""
        found = self.value(name, default)
        if not isinstance(found, str) or found not in choices:
            self._wrong(name, found, f"one of {', '.join(choices)}")
        return found

    def items(self, name: str, default: Any = _MISSING) -> list[tuple[str, Any]]:
        """The items of a list, each with its place in the file."""
        found = self.value(name, default)
        if not isinstance(found, list | tuple):
            self._wrong(name, found, "a list")
        return [(f"{self._place(name)}[{i}]", item) for i, item in enumerate(found)]

    def inner(self, name: str) -> Fields:
        """The object in a field."""
        return Fields(self.value(name), self._place(name))

    def one_of(self, *names: str) -> str:
        """The one of these fields that is there.

        Raises:
            TokenizerError: unless exactly one of them is.
        """
        found = [name for name in names if name in self._values]
        if len(found) != 1:
            raise TokenizerError(f"{self.where} must hold one of {', '.join(names)}")
        return found[0]

    def ignore(self, *names: str) -> None:
        """Pass over fields that change no id and no text."""
        self._read.update(names)

    def done(self) -> None:
        """Refuse what has not been read and says something.

        Raises:
            TokenizerError: naming the field.
        """
        for name, value in self._values.items():
            if name not in self._read and not is_nothing(value):
                raise self.unsupported(name)

    def unsupported(self, name: str = "", cure: str = CURE) -> TokenizerError:
        """The error for a field (or the whole object) that asks for what stemma does not have."""
        value = self._values.get(name) if name else self._values
        kind = value.get("type") if isinstance(value, dict) else None
        return TokenizerError(
            f"asks for {self._place(name) if name else self.where} = "
            f"{kind if isinstance(kind, str) else shown(value)}, which stemma does not have",
            cure=cure,
        )

    def _place(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def _wrong(self, name: str, found: Any, wanted: str) -> NoReturn:
        raise TokenizerError(f"{self._place(name)} is {shown(found)}, not {wanted}")


def is_nothing(value: Any) -> bool:
    """Whether a field with this value asks for nothing."""
    return value in NOTHING


def shown(value: Any) -> str:
    """A value as a message shows it: JSON, and no more than a line of it."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = json.dumps(value, ensure_ascii=True, default=repr)
    return text if len(text) < 60 else text[:57] + "..."


def read_by_type(values: Any, where: str, readers: Mapping[str, Callable[[Fields], T]]) -> T:
    """What the reader makes of an object that its field ``type`` names.

    Raises:
        TokenizerError: if there is no such reader, or a field makes no sense or goes unread.
    """
    fields = Fields(values, where)
    read = readers.get(fields.type)
    if read is None:
        raise fields.unsupported()
    result = read(fields)
    fields.done()
    return result
