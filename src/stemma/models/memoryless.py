"""Models that are built without memory: to be counted, or to be filled from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are made in this block have parameters of a shape and a type, but no numbers."""
    with torch.device("meta"), _NoBeginnings():
        yield


class _NoBeginnings(TorchFunctionMode):
    """Leaves a parameter as it is where `torch.nn.init` would begin it.

    Without memory there is nothing to draw, but torch loads its compiler to find that out, which
    takes two seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The parameter itself from what begins it; all else as it is."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
