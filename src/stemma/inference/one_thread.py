"""Small work on one thread, so that torch's other threads leave their cores to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock, local
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class _Here(local):
    """Whether the thread that asks is in such a function."""

    inside = False


@dataclass
class _Users:
    """The threads that are in such a function.

    Attributes:
        n: how many there are.
        usual: how many threads an operation had when the first of them came.
        lock: held by who comes or leaves.
    """

    n: int = 0
    usual: int = 1
    lock: Lock = field(default_factory=Lock)


_here = _Here()
_users = _Users()


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function's operations run on the thread that calls it.

    torch spreads an operation over its threads from 32,768 numbers on, and so one row of logits.
    That saves nothing; and the threads it wakes look for more work for some milliseconds, on the
    cores that the engine needs for the next token (76 tokens a second instead of 187, SmolLM2-135M
    in 8 bits on two cores).

    torch has no such setting for one thread alone: a thread that first uses torch while such a
    function runs elsewhere begins with one thread too. It gets the usual number when it comes here
    itself; one that never does keeps a single thread, unless it calls ``torch.set_num_threads``.
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        if _here.inside:
            return function(*args, **kwargs)
        n_threads = _enter()
        try:
            return function(*args, **kwargs)
        finally:
            _leave(n_threads)

    return alone


def _enter() -> int:
    """Leave operations of this thread one thread; returns how many they are to have afterwards."""
    with _users.lock:
        n_threads = torch.get_num_threads()
        if _users.n == 0:
            _users.usual = n_threads
        elif n_threads == 1:
            n_threads = _users.usual  # this thread began while others were here
        if n_threads > 1:
            torch.set_num_threads(1)
        _users.n += 1
    _here.inside = True
    return n_threads


def _leave(n_threads: int) -> None:
    _here.inside = False
    with _users.lock:
        _users.n -= 1
        if n_threads > 1:
            torch.set_num_threads(n_threads)
