"""Small work on one thread, so that torch's other threads leave their cores to the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function's operations run on the thread that calls it.

    torch spreads an operation over its threads from 32,768 numbers on, and so one row of logits.
    That saves nothing; and the threads it wakes look for more work for some milliseconds, on the
    cores that the engine needs for the next token (76 tokens a second instead of 187, SmolLM2-135M
    in 8 bits on two cores).
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        n_threads = torch.get_num_threads()
        if n_threads == 1:
            return function(*args, **kwargs)
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(n_threads)

    return alone
