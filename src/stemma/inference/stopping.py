"""Stop strings over streamed text: nothing that belongs to one is ever shown."""

from __future__ import annotations

from collections.abc import Iterable

from stemma.errors import ConfigError


class StopStrings:
    """Passes text on until a stop string is complete, and holds back what might be one's beginning.

    The text ends before the stop string that is *complete first*; of several complete at the same
    character, before the longest. So the result does not depend on how the text was cut into
    pieces, and no more text is needed once any stop string is complete.

    Args:
        strings: the stop strings; none means that everything passes at once.

    Raises:
        ConfigError: if one is empty, since that would stop before the first character.
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._strings = tuple(strings)
        if "" in self._strings:
            raise ConfigError(
                "a stop string is empty", where="stop", cure="Give it a character, or leave it out."
            )
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text, once there is one."""

    def push(self, text: str) -> str:
        """Take the next piece and return what may be shown; nothing once a stop string is found."""
        if self.found is not None:
            return ""
        self._held += text
        ends = [
            (start + len(string), start, string)
            for string in self._strings
            if (start := self._held.find(string)) >= 0
        ]
        if ends:
            _, start, self.found = min(ends)
            return self._release(start)
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """No more text comes: return what was held back, unless a stop string was found."""
        return "" if self.found is not None else self._release(len(self._held))

    def _release(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(map(len, self._strings), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0
