"""Embedding: the sum of two rows."""

from __future__ import annotations

import torch
from torch import nn

from stemma.nn import Embedding


def tables() -> tuple[nn.Embedding, nn.Embedding]:
    tokens = nn.Embedding.from_pretrained(torch.arange(8.0).view(4, 2))
    positions = nn.Embedding.from_pretrained(100 * torch.arange(6.0).view(3, 2))
    return tokens, positions


def test_a_token_and_its_position() -> None:
    embed = Embedding(*tables())
    ids = torch.tensor([[3, 0], [1, 1]])
    found = embed(ids, torch.tensor([0, 2]))
    assert found.tolist() == [[[6, 107], [400, 501]], [[2, 103], [402, 503]]]
    by_row = embed(ids, torch.tensor([[0, 2], [1, 1]]))
    assert by_row.tolist() == [[[6, 107], [400, 501]], [[202, 303], [202, 303]]]


def test_a_token_alone() -> None:
    embed = Embedding(tables()[0])
    assert embed(torch.tensor([[2]]), torch.tensor([5])).tolist() == [[[4, 5]]]


def test_dropout_while_training_only() -> None:
    embed = Embedding(*tables(), dropout=0.5)
    ids = torch.ones(64, 2, dtype=torch.long)
    embed.eval()
    assert len(embed(ids, torch.tensor([1, 2]))[:, 0, 0].unique()) == 1
    embed.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert embed(ids, torch.tensor([1, 2]))[:, 0, 0].unique().tolist() == [0, 2 * 202]
