from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stemma.data import IGNORE_INDEX, Batch
from stemma.training.objective import NextToken, Objective


class FixedLogits(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen: Tensor | None = None

    def forward(self, ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        self.seen = document_ids
        return self.logits


def test_a_hand_worked_sum() -> None:
    # p = (1/4, 3/4) at the first position, (1/2, 1/2) at the second; the third is not scored.
    logits = torch.tensor([[[0.0, math.log(3.0)], [1.0, 1.0], [5.0, -5.0]]])
    batch = Batch(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[1, 0, IGNORE_INDEX]]))
    terms = NextToken()(FixedLogits(logits), batch)
    assert float(terms.loss_sum) == pytest.approx(math.log(4 / 3) + math.log(2.0), rel=1e-6)
    assert float(terms.weight) == 2


def test_agrees_with_log_softmax_gathered_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 11, generator=generator)
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[torch.rand(3, 7, generator=generator) < 0.4] = IGNORE_INDEX
    expected = 0.0
    for row in range(3):
        for t in range(7):
            if (label := int(labels[row, t])) != IGNORE_INDEX:
                scores = logits[row, t].double()
                expected += float(scores.logsumexp(0) - scores[label])
    terms = NextToken()(FixedLogits(logits), Batch(torch.zeros(3, 7, dtype=torch.long), labels))
    assert float(terms.loss_sum) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_float32_whatever_the_logits_are() -> None:
    logits = (torch.randn(2, 64, 997, generator=torch.Generator().manual_seed(1)) * 3).bfloat16()
    batch = Batch(torch.zeros(2, 64, dtype=torch.long), torch.ones(2, 64, dtype=torch.long))
    loss = NextToken()(FixedLogits(logits), batch).loss_sum
    exact = -logits.double().log_softmax(-1)[..., 1].sum()
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)


def test_the_model_sees_the_documents() -> None:
    ids = torch.zeros(1, 3, dtype=torch.long)
    documents = torch.tensor([[0, 0, 1]])
    model = FixedLogits(torch.zeros(1, 3, 2))
    NextToken()(model, Batch(ids, ids, documents))
    assert model.seen is documents


def test_it_is_an_objective() -> None:
    assert isinstance(NextToken(), Objective)


def test_a_batch_without_labels_weighs_nothing() -> None:
    labels = torch.full((1, 3), IGNORE_INDEX)
    batch = Batch(torch.zeros(1, 3, dtype=torch.long), labels)
    terms = NextToken()(FixedLogits(torch.randn(1, 3, 2)), batch)
    assert (float(terms.loss_sum), float(terms.weight)) == (0.0, 0.0)
