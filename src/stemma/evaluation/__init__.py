"""Model -> numbers.

The public names load on first use, so that the command line does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

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
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)
