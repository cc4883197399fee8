"""Ids -> vectors: the token's, and what is known of its place."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Embedding(nn.Module):
    """Look up the vector of each token, and add what is known of its place.

    Args:
        tokens: vectors of the vocabulary ``[vocab_size, d_model]``.
        positions: positions -> vectors ``[..., d_model]``, learned or not; or None.
        segments: vectors of the parts of a text ``[n_segments, d_model]``, as BERT has; or None.
        norm: of the sum; or None.
        scale: multiplies the tokens' vectors; the Transformer's is the root of d_model
            (arXiv:1706.03762, section 3.4).
        dropout: probability of dropping a feature of the sum while training.
    """

    def __init__(
        self,
        tokens: nn.Embedding,
        positions: nn.Module | None = None,
        *,
        segments: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.segments = segments
        self.norm = norm
        self.scale = scale
        self.dropout = dropout

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        positions: Int[Tensor, "*batch seq"],
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Embed ``ids`` that stand at ``positions`` (``[seq]``, or ``[batch, seq]``).

        Args:
            ids: of the tokens.
            positions: of the tokens.
            segment_ids: the part of the text that each belongs to; all the first by default.
        """
        embedded: Tensor = self.tokens(ids)
        if self.scale != 1:
            embedded = embedded * torch.tensor(self.scale, dtype=embedded.dtype)
        if self.segments is not None:
            parts = torch.zeros_like(ids) if segment_ids is None else segment_ids
            embedded = embedded + self.segments(parts)
        if self.positions is not None:
            embedded = embedded + self.positions(positions).to(embedded.dtype)
        if self.norm is not None:
            embedded = self.norm(embedded)
        return F.dropout(embedded, self.dropout, self.training)
