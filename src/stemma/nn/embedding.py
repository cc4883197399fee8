"""Ids -> vectors: the token's, and where positions are learned, the position's."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Embedding(nn.Module):
    """Look up the vector of each token and add that of its position, if positions have vectors.

    Args:
        tokens: vectors of the vocabulary ``[vocab_size, d_model]``.
        positions: vectors of the positions ``[context_length, d_model]``, or None.
        dropout: probability of dropping a feature of the sum while training.
    """

    def __init__(
        self, tokens: nn.Embedding, positions: nn.Embedding | None = None, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.dropout = dropout

    def forward(
        self, ids: Int[Tensor, "batch seq"], positions: Int[Tensor, "*batch seq"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """Embed ``ids`` that stand at ``positions`` (``[seq]``, or ``[batch, seq]``)."""
        embedded: Tensor = self.tokens(ids)
        if self.positions is not None:
            embedded = embedded + self.positions(positions)
        return F.dropout(embedded, self.dropout, self.training)
