"""What a block does at each position by itself: the plain and the gated feed-forward layer."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.nn.activation import ACTIVATIONS, Activation, ActivationName
from stemma.nn.moe import MoEConfig


class MLP(nn.Module):
    r"""Two linear maps with a nonlinearity between them: :math:`W_2\, a(W_1 x + b_1) + b_2`.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.3, with ReLU; GPT and BERT took GELU
    (arXiv:1606.08415), Primer the square of ReLU (arXiv:2109.08668).

    Args:
        d_model: features in and out.
        d_ff: features in between.
        activation: the nonlinearity a.
        bias: whether there are b_1 and b_2.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Activation, bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply it at every position."""
        hidden: Tensor = self.down_proj(self.activation(self.up_proj(x)))
        return hidden


class GatedMLP(nn.Module):
    r"""A feed-forward layer whose hidden features are gated: :math:`W_2 (a(W_g x) \odot W_1 x)`.

    | activation a | name |
    |---|---|
    | ``sigmoid`` | GLU (Dauphin et al. 2016, arXiv:1612.08083) |
    | ``identity`` | Bilinear |
    | ``relu`` | ReGLU |
    | ``gelu``, ``gelu_tanh`` | GEGLU |
    | ``silu`` | SwiGLU |

    Shazeer 2020, arXiv:2002.05202, section 2.

    Args:
        d_model: features in and out.
        d_ff: features in between; 2/3 of a plain layer's has the same number of weights.
        activation: the nonlinearity a.
        bias: whether the three maps have biases.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Activation, bias: bool = False
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply it at every position."""
        hidden: Tensor = self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
        return hidden


class MLPConfig(Config):
    """Builds an `MLP`; ``d_ff`` is 4 d_model unless it is given."""

    kind: Literal["mlp"] = "mlp"
    d_ff: int | None = Field(default=None, ge=1)
    activation: ActivationName = "gelu_tanh"
    bias: bool = True

    def build(self, d_model: int) -> MLP:
        """The layer for ``d_model`` features."""
        activation = ACTIVATIONS[self.activation]
        return MLP(d_model, self.d_ff or 4 * d_model, activation=activation, bias=self.bias)


class GatedMLPConfig(Config):
    """Builds a `GatedMLP`."""

    kind: Literal["gated"] = "gated"
    d_ff: int = Field(ge=1)
    activation: ActivationName = "silu"
    bias: bool = False

    def build(self, d_model: int) -> GatedMLP:
        """The layer for ``d_model`` features."""
        activation = ACTIVATIONS[self.activation]
        return GatedMLP(d_model, self.d_ff, activation=activation, bias=self.bias)


FeedForwardConfig = Annotated[MLPConfig | GatedMLPConfig | MoEConfig, Field(discriminator="kind")]
