"""Threads that run one compiled function side by side, and sleep between two calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemma.inference.kernels.machine import ABANDONED, MEETING_SIZE


class _Share(NamedTuple):
    """What one thread of a team is to do."""

    work: Callable[..., object]
    thread: int
    n_threads: int
    meeting: NDArray[np.int64]
    arguments: tuple[Any, ...]
    finished: SimpleQueue[BaseException | None]


class Team:
    """Threads beside the one that asks. One piece of work is done at a time, whoever asks."""

    def __init__(self) -> None:
        self._inboxes: list[SimpleQueue[_Share]] = []
        self._lock = Lock()

    def run(self, work: Callable[..., object], n_threads: int, *arguments: Any) -> None:
        """Call ``work(thread, n_threads, meeting, *arguments)`` in each of ``n_threads`` threads.

        The function must not hold the interpreter's lock. ``meeting`` is where the threads wait for
        each other (`stemma.inference.kernels.machine.meet`); an interrupt of this thread ends it,
        and so does an error in any: it is raised here, once all threads have ended their work.
        """
        meeting = np.zeros(MEETING_SIZE, np.int64)
        finished: SimpleQueue[BaseException | None] = SimpleQueue()
        with self._lock:
            while len(self._inboxes) < n_threads - 1:
                self._hire()
            n_busy = 0
            try:
                for thread in range(1, n_threads):
                    share = _Share(work, thread, n_threads, meeting, arguments, finished)
                    self._inboxes[thread - 1].put(share)
                    n_busy += 1
                work(0, n_threads, meeting, *arguments)
            except BaseException:
                meeting[ABANDONED] = 1
                raise
            finally:
                errors = [finished.get() for _ in range(n_busy)]
            for error in errors:
                if error is not None:
                    raise error

    def _hire(self) -> None:
        inbox: SimpleQueue[_Share] = SimpleQueue()
        Thread(target=_serve, args=(inbox,), daemon=True, name="stemma-engine").start()
        self._inboxes.append(inbox)


def _serve(inbox: SimpleQueue[_Share]) -> None:
    while True:
        share = inbox.get()
        failed: BaseException | None = None
        try:
            share.work(share.thread, share.n_threads, share.meeting, *share.arguments)
        except BaseException as error:  # it belongs to the thread that asked
            share.meeting[ABANDONED] = 1
            failed = error
        share.finished.put(failed)
        del share, failed


_teams: dict[int, Team] = {}


def team() -> Team:
    """The team of this process: threads do not survive a fork."""
    return _teams.setdefault(os.getpid(), Team())
