"""Ctrl-C and SIGTERM: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which the first signal is a request and the second does what it always did.

    The first SIGINT or SIGTERM sets `requested` and puts the earlier handlers back, so the second
    one stops at once. Outside the main thread Python allows no handlers, and none are set.
    """

    def __init__(self) -> None:
        self.requested = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            # None: the handler was not set from Python, and cannot be put back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}
