"""The protocol: who satisfies it, and scoring tokens by the model's own way or through it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stemma.models import LanguageModel, Transformer, preset, token_log_probs
from stemma.models.ngram import NGram


class Biased:
    """Next id is 0 with probability 3/4 after an even id, else 1/4; of two ids."""

    vocab_size = 2
    context_length = None

    def next_log_probs(self, ids: Tensor) -> Tensor:
        zero = torch.where(ids % 2 == 0, 0.75, 0.25)
        return torch.stack([zero, 1 - zero], dim=-1).log()


class Boasting(Biased):
    def token_log_probs(self, ids: Tensor) -> Tensor:
        return torch.full((ids.shape[0], ids.shape[1] - 1), -1.5)


def test_models_of_every_age_are_language_models() -> None:
    assert isinstance(Biased(), LanguageModel)
    assert isinstance(Transformer(preset("gpt-nano")), LanguageModel)
    assert isinstance(NGram.fit(np.arange(8) % 3, 2, vocab_size=3), LanguageModel)
    assert not isinstance(torch.nn.Linear(2, 2), LanguageModel)


def test_tokens_are_scored_through_the_distributions() -> None:
    found = token_log_probs(Biased(), torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0]])).exp()
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25, 0.75], [0.25, 0.25, 0.25]]))


def test_a_models_own_way_is_preferred() -> None:
    assert token_log_probs(Boasting(), torch.zeros(2, 4, dtype=torch.long)).unique().item() == -1.5
