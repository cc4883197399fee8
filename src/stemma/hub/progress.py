"""What a user waits for: how far a download has come, and what else takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from typing import TextIO


class ProgressLine:
    """Prints bytes, rate and the time that is left to standard error.

    Args:
        stream: where to, if not to standard error.
        every_seconds: between two lines where it is no terminal.
    """

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = 0.1 if self._terminal else every_seconds
        self._began = self._shown = monotonic()
        self._first = self._last = 0

    def __call__(self, done: int, total: int | None) -> None:
        """Take note of the bytes done and, where that is known, of how many there are."""
        now = monotonic()
        if done < self._last:  # another file
            self._began, self._first = now, done
        elif self._last == 0:
            self._first = max(0, done - (1 << 20))  # what was there before is not of this rate
        self._last = done
        whole = done == total
        if not whole and now - self._shown < self._every:
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._began, 1e-3)
        line = f"{_amount(done, total)}, {rate / 1e6:,.1f} MB/s"
        if total is not None and not whole and rate > 0:
            line += f", {_span((total - done) / rate)} left"
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if whole else ""))
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


def _amount(done: int, total: int | None) -> str:
    if total is None:
        return f"{done / 1e6:,.1f} MB"
    return f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB ({100 * done // max(total, 1)} %)"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def saying(what: str, *, after: float = 2.0) -> Iterator[Callable[[], None]]:
    """Name on standard error what a block does, if it takes long; the function given ends that.

    Args:
        what: is done.
        after: so many seconds.
    """
    timer = Timer(after, lambda: sys.stderr.write(f"{what} ...\n"))
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()
