"""What all layers of one kind share: how they know positions, and how far they see."""

from __future__ import annotations

from typing import Self

from jaxtyping import Bool, Int
from torch import Tensor, nn

from stemma.models.transformer_config import LocalLayersConfig, TransformerConfig
from stemma.nn.position import Rotary
from stemma.nn.position_bias import PositionBias
from stemma.nn.sight import Sight, visible


class LayerKind(nn.Module):
    """Positions -> what the layers of a kind need to know of them.

    Args:
        rotary: rotation of queries and keys, if any.
        bias: of the scores, if any.
        causal: whether a position sees only those before.
        window: how many positions are seen; all by default.
    """

    def __init__(
        self,
        *,
        rotary: Rotary | None = None,
        bias: PositionBias | None = None,
        causal: bool = True,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.rotary = rotary
        self.bias = bias
        self.causal = causal
        self.window = window

    @classmethod
    def of(cls, config: TransformerConfig, local: LocalLayersConfig | None = None) -> Self:
        """The kind of a model's ``local`` layers, or of its other layers."""
        position = (local and local.position) or config.position
        return cls(
            rotary=position.build_rotation(config.attention.rotary_size(config.d_model)),
            bias=position.build_bias(config.attention.n_heads, causal=config.causal),
            causal=config.causal,
            window=local.window if local else None,
        )

    def forward(
        self,
        queries: Int[Tensor, "*batch query"],
        keys: Int[Tensor, "*batch key"],
        same_document: Bool[Tensor, "batch query key"] | None = None,
    ) -> Sight:
        """The sight of positions ``queries`` among positions ``keys``.

        Args:
            queries: the last ones of ``keys``, if all rows have the same; one row each otherwise.
            keys: likewise.
            same_document: True where both belong to one text; all do by default.
        """
        rotation = None if self.rotary is None else self.rotary(queries)
        bias = None if self.bias is None else self.bias(queries, keys)
        narrow = self.window is not None and self.window < keys.shape[-1]
        mask = None
        if same_document is not None or queries.ndim == 2 or narrow:
            mask = visible(queries, keys, causal=self.causal, window=self.window)
            mask = mask if same_document is None else mask & same_document
            mask = mask.unsqueeze(-3)
        return Sight(rotation, _with_batch(mask), _with_batch(bias), self.causal)


def _with_batch(scores: Tensor | None) -> Tensor | None:
    """Four dimensions, the first of size 1 where all rows are alike."""
    return scores.unsqueeze(0) if scores is not None and scores.ndim == 3 else scores
