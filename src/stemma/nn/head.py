"""Hidden vectors -> logits: the output layer, or what stands in its place."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.nn.activation import ACTIVATIONS, Activation, ActivationName
from stemma.nn.attend import soft_capped
from stemma.nn.norm import NormConfig


class Head(nn.Linear):
    r"""A linear map to the vocabulary, whose logits may be bounded: :math:`c \tanh(W h / c)`.

    Its matrix may be that of the token embedding (Press & Wolf 2017, arXiv:1608.05859). Soft-cap:
    Gemma Team 2024, arXiv:2408.00118, section 2. T5 divides the hidden vectors by the root of their
    size where it has the embedding's matrix, which is large (Mesh TensorFlow's code).

    Args:
        d_model: features in.
        vocab_size: logits out.
        bias: whether each logit has a bias.
        softcap: c, if logits are bounded.
        scale: multiplies the hidden vectors.
    """

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        *,
        bias: bool = False,
        softcap: float | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(d_model, vocab_size, bias=bias)
        self.softcap = softcap
        self.scale = scale

    def forward(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of every position."""
        logits = super().forward(hidden if self.scale == 1 else hidden * self.scale)
        return logits if self.softcap is None else soft_capped(logits, self.softcap)


class MaskedHead(Head):
    """The head of a masked language model: one more map, nonlinearity and norm before the logits.

    Devlin et al. 2018 (BERT), arXiv:1810.04805; the map is in its code, not in the paper.

    Args:
        d_model: features in.
        vocab_size: logits out.
        activation: of the map.
        norm: of its output.
    """

    def __init__(
        self, d_model: int, vocab_size: int, *, activation: Activation, norm: nn.Module
    ) -> None:
        super().__init__(d_model, vocab_size, bias=True)
        self.transform = nn.Linear(d_model, d_model)
        self.activation = activation
        self.norm = norm

    def forward(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of every position."""
        return super().forward(self.norm(self.activation(self.transform(hidden))))


class Pooler(nn.Module):
    r"""A vector for a whole text out of each position, :math:`\tanh(W h + b)`: an encoder's head.

    BERT reads it at the first position; see arXiv:1810.04805, section 3.

    Args:
        d_model: features in and out.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply it at every position."""
        return torch.tanh(self.dense(hidden))


class LinearHeadConfig(Config):
    """Builds a `Head`."""

    kind: Literal["linear"] = "linear"
    bias: bool = False
    softcap: float | None = Field(default=None, gt=0, description="bound of the logits")
    scaled: bool = Field(default=False, description="hidden vectors over the root of d_model")

    def build(self, d_model: int, vocab_size: int) -> nn.Module:
        """The head for ``d_model`` features."""
        scale = d_model**-0.5 if self.scaled else 1.0
        return Head(d_model, vocab_size, bias=self.bias, softcap=self.softcap, scale=scale)


class MaskedHeadConfig(Config):
    """Builds a `MaskedHead`."""

    kind: Literal["masked"] = "masked"
    activation: ActivationName = "gelu"
    norm: NormConfig

    def build(self, d_model: int, vocab_size: int) -> nn.Module:
        """The head for ``d_model`` features."""
        return MaskedHead(
            d_model,
            vocab_size,
            activation=ACTIVATIONS[self.activation],
            norm=self.norm.build(d_model),
        )


class PoolerConfig(Config):
    """Builds a `Pooler`: the model is an encoder, which gives vectors and no logits."""

    kind: Literal["pooler"] = "pooler"

    def build(self, d_model: int, vocab_size: int) -> nn.Module:
        """The pooler of ``d_model`` features."""
        return Pooler(d_model)


class NoHeadConfig(Config):
    """No head: the model is an encoder, which gives hidden vectors."""

    kind: Literal["none"] = "none"

    def build(self, d_model: int, vocab_size: int) -> nn.Module:
        """What passes them on."""
        return nn.Identity()


HeadConfig = Annotated[
    LinearHeadConfig | MaskedHeadConfig | PoolerConfig | NoHeadConfig, Field(discriminator="kind")
]
