"""Model -> numbers.

The public names load on first use, so that the command line does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Evaluation": "stemma.evaluation.result",
    "QuantisationLoss": "stemma.evaluation.quantisation",
    "evaluate": "stemma.evaluation.perplexity",
    "evaluate_orders": "stemma.evaluation.orders",
    "quantisation_loss": "stemma.evaluation.quantisation",
    "token_losses": "stemma.evaluation.perplexity",
}

__all__ = [
    "Evaluation",
    "QuantisationLoss",
    "evaluate",
    "evaluate_orders",
    "quantisation_loss",
    "token_losses",
]

if TYPE_CHECKING:
    from stemma.evaluation.orders import evaluate_orders
    from stemma.evaluation.perplexity import evaluate, token_losses
    from stemma.evaluation.quantisation import QuantisationLoss, quantisation_loss
    from stemma.evaluation.result import Evaluation


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stemma.evaluation' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
