"""The first attentions: where the state of a recurrent decoder looks in the source.

A score says how well a decoder's state and an encoder's state match. Global attention turns the
scores of all source positions into weights; local attention those near a position it predicts.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from stemma.config import Config
from stemma.errors import ModelError

States = Float[Tensor, "batch target d_query"]
Scores = Float[Tensor, "batch target source"]


class Score(nn.Module):
    """How well states of a decoder and of an encoder match."""

    @abstractmethod
    def prepare(self, source: Float[Tensor, "batch source d_key"]) -> Tensor:
        """The part that does not depend on the decoder: computed once for a source."""

    @abstractmethod
    def forward(self, states: States, prepared: Tensor) -> Scores:
        """The score of every decoder state with every prepared encoder state."""


class AdditiveScore(Score):
    r"""A hidden layer between the two, :math:`v^T \tanh(W s + U h)`.

    Bahdanau et al. 2014, arXiv:1409.0473, section 3.1 and appendix A.1.2. Luong's ``concat``,
    :math:`v^T \tanh(W [s; h])`, is the same function with :math:`[W\, U]` in one matrix.

    Args:
        d_query: features of a decoder state s.
        d_key: features of an encoder state h.
        d_score: features of the hidden layer.
    """

    def __init__(self, d_query: int, d_key: int, d_score: int) -> None:
        super().__init__()
        self.query_proj = nn.Linear(d_query, d_score, bias=False)
        self.key_proj = nn.Linear(d_key, d_score, bias=False)
        self.score_proj = nn.Linear(d_score, 1, bias=False)

    def prepare(self, source: Float[Tensor, "batch source d_key"]) -> Tensor:
        """U h."""
        prepared: Tensor = self.key_proj(source)
        return prepared

    def forward(self, states: States, prepared: Float[Tensor, "batch source d_score"]) -> Scores:
        """See the formula."""
        hidden = torch.tanh(self.query_proj(states).unsqueeze(2) + prepared.unsqueeze(1))
        scores: Tensor = self.score_proj(hidden).squeeze(-1)
        return scores


class DotScore(Score):
    r"""The product of the two, :math:`s^T h`, which are of one size.

    Luong et al. 2015, arXiv:1508.04025, section 3.1, ``dot``.
    """

    def prepare(self, source: Float[Tensor, "batch source d_key"]) -> Tensor:
        """The states themselves."""
        return source

    def forward(self, states: States, prepared: Float[Tensor, "batch source d_key"]) -> Scores:
        """See the formula."""
        return states @ prepared.mT


class GeneralScore(Score):
    r"""The product with a matrix between, :math:`s^T W h`.

    Luong et al. 2015, arXiv:1508.04025, section 3.1, ``general``.

    Args:
        d_query: features of a decoder state s.
        d_key: features of an encoder state h.
    """

    def __init__(self, d_query: int, d_key: int) -> None:
        super().__init__()
        self.key_proj = nn.Linear(d_key, d_query, bias=False)

    def prepare(self, source: Float[Tensor, "batch source d_key"]) -> Tensor:
        """W h."""
        prepared: Tensor = self.key_proj(source)
        return prepared

    def forward(self, states: States, prepared: Float[Tensor, "batch source d_query"]) -> Scores:
        """See the formula."""
        return states @ prepared.mT


class Source(NamedTuple):
    """What a decoder may look at, of `SourceAttention.read`.

    Attributes:
        states: of the encoder.
        prepared: what the score made of them.
        mask: True at words, False at padding.
    """

    states: Float[Tensor, "batch source d_key"]
    prepared: Tensor
    mask: Bool[Tensor, "batch source"]


class SourceAttention(nn.Module):
    r"""A mean of the encoder's states, weighted by how they match the decoder's state.

    .. math:: a_j = \mathrm{softmax}_j(\mathrm{score}(s, h_j)), \qquad c = \sum_j a_j h_j

    Bahdanau et al. 2014 give it the decoder's *previous* state :math:`s_{i-1}`, and the step to
    :math:`s_i` reads c; Luong et al. 2015 (global) give it the *current* one, and c goes with it
    into the prediction, so that all steps of a known target can be computed at once.

    Args:
        score: see `Score`.
    """

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def read(
        self,
        states: Float[Tensor, "batch source d_key"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Source:
        """Take in a source once, for all steps of the decoder.

        Args:
            states: of the encoder.
            mask: True at words, False at padding; all are words by default.
        """
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        return Source(states, self.score.prepare(states), mask)

    def forward(
        self, states: States, source: Source
    ) -> tuple[Float[Tensor, "batch target d_key"], Scores]:
        """The mean for each decoder state, and its weights over the source, 0 at padding."""
        weights = self.weigh(states, source)
        return weights @ source.states, weights

    def weigh(self, states: States, source: Source) -> Scores:
        """The weights; each state's sum to 1."""
        return softmax_where(self.score(states, source.prepared), source.mask.unsqueeze(1))


class LocalSourceAttention(SourceAttention):
    r"""Attention to the neighbourhood of a position that the decoder's state predicts.

    .. math::
        p = S \, \sigma(v^T \tanh(W s)), \qquad
        a_j = \mathrm{softmax}_{|j - p| \le D}(\mathrm{score}(s, h_j))
        \exp\left(-\frac{(j - p)^2}{2 (D/2)^2}\right)

    with S words in the source, at positions 0 to S - 1. The bell makes p learnable; because of it
    the weights sum to less than 1. Luong et al. 2015, arXiv:1508.04025, section 3.2, ``local-p``.

    Args:
        score: see `Score`.
        d_query: features of a decoder state s.
        window: D, how far to each side.
    """

    def __init__(self, score: Score, d_query: int, window: int) -> None:
        super().__init__(score)
        self.window = window
        self.place_proj = nn.Linear(d_query, d_query, bias=False)
        self.place_score = nn.Linear(d_query, 1, bias=False)

    def weigh(self, states: States, source: Source) -> Scores:
        """The weights; each state's sum to at most 1."""
        positions = (source.mask.cumsum(-1) - 1).unsqueeze(1)
        distance = positions - self.places(states, source)
        near = (distance.abs() <= self.window) & source.mask.unsqueeze(1)
        weights = softmax_where(self.score(states, source.prepared), near)
        return weights * torch.exp(-2 * (distance / self.window).square())

    def places(self, states: States, source: Source) -> Float[Tensor, "batch target 1"]:
        """p: where each state expects to look, in words from the beginning."""
        n_words = source.mask.sum(-1).view(-1, 1, 1)
        share: Tensor = torch.sigmoid(self.place_score(torch.tanh(self.place_proj(states))))
        return n_words * share


def softmax_where(scores: Scores, mask: Bool[Tensor, "batch _ source"]) -> Scores:
    """Weights that sum to 1 where the mask is True and are 0 elsewhere; 0 if it is nowhere True."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(-1) * mask


class AdditiveScoreConfig(Config):
    """Builds an `AdditiveScore`."""

    kind: Literal["additive"] = "additive"
    d_score: int | None = Field(default=None, ge=1, description="default: d_query")

    def build(self, d_query: int, d_key: int) -> AdditiveScore:
        """The score of such states."""
        return AdditiveScore(d_query, d_key, self.d_score or d_query)


class DotScoreConfig(Config):
    """Builds a `DotScore`."""

    kind: Literal["dot"] = "dot"

    def build(self, d_query: int, d_key: int) -> DotScore:
        """The score of such states.

        Raises:
            ModelError: if they are of two sizes.
        """
        if d_query != d_key:
            raise ModelError(
                f"states of {d_query} and {d_key} features have no product",
                cure="Give encoder and decoder one size, or take score.kind = 'general'.",
            )
        return DotScore()


class GeneralScoreConfig(Config):
    """Builds a `GeneralScore`."""

    kind: Literal["general"] = "general"

    def build(self, d_query: int, d_key: int) -> GeneralScore:
        """The score of such states."""
        return GeneralScore(d_query, d_key)


ScoreConfig = Annotated[
    AdditiveScoreConfig | DotScoreConfig | GeneralScoreConfig, Field(discriminator="kind")
]


class SourceAttentionConfig(Config):
    """Builds a `SourceAttention`, or a `LocalSourceAttention` if there is a window."""

    score: ScoreConfig = AdditiveScoreConfig()
    window: int | None = Field(default=None, ge=1, description="source words to each side; all")

    def build(self, d_query: int, d_key: int) -> SourceAttention:
        """The layer between a decoder and an encoder with states of these sizes."""
        score = self.score.build(d_query, d_key)
        if self.window is None:
            return SourceAttention(score)
        return LocalSourceAttention(score, d_query, self.window)
