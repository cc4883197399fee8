"""Whether a model decodes through the engine: where it can, and where that pays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stemma.inference import kernels
from stemma.inference.engine.fitness import obstacle
from stemma.models import Transformer
from stemma.tokenizers.kernels import cached

if TYPE_CHECKING:
    from stemma.inference.engine.engine import Engine

_TO_LOAD, _TO_COMPILE = 1.0, 4.0
_state = {"seconds": 0.0}


def engine_for(model: object, n_tokens: int) -> Engine | None:
    """An `Engine` for a model, if it can be served and that pays; else None.

    Loading compiled code takes most of a second, and compiling it, once on a machine, ten. It pays
    as soon as the texts of this process would have been shortened by a good part of that.

    Args:
        model: any model.
        n_tokens: the most tokens of the text that it will be asked for.
    """
    if obstacle(model) is not None:
        return None
    assert isinstance(model, Transformer)
    loaded = f"{kernels.__name__}.step" in sys.modules
    if not loaded:
        _state["seconds"] += _by_torch(model) * n_tokens
        on_disk = cached(Path(kernels.__file__).parent)
        if _state["seconds"] < (_TO_LOAD if on_disk else _TO_COMPILE):
            return None
    from stemma.inference.engine.engine import Engine

    return Engine(model)


def _by_torch(model: Transformer) -> float:
    """About how long a token takes: the operations of a layer begin, weights are read.

    Those in few bits are made anew for each token, which takes ten times as long as reading them.
    """
    n_small = sum(x.numel() for part in model.modules() for x in part.buffers(recurse=False))
    return 3e-4 * model.config.n_layers + 1e-10 * model.n_parameters() + 1e-9 * n_small
