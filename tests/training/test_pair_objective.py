"""Label smoothing and the objective of pairs: by hand, against torch, one trajectory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_invariants import assert_one_trajectory, trajectory_of
from tiny_training import TinyModel, tiny_batches, tiny_trainer
from torch.nn import functional as F

from stemma.data import IGNORE_INDEX, PairBatch, PairBatches
from stemma.errors import ConfigError
from stemma.models import EncoderDecoder
from stemma.models.encoder_decoder_config import original
from stemma.training import NextToken, TargetGivenSource
from stemma.training.objective import summed_cross_entropy


def model() -> EncoderDecoder:
    return original(
        vocab_size=20, d_model=16, n_layers=1, n_heads=2, d_ff=24, context_length=9, dropout=0.0
    ).build(seed=1)


def pairs(n: int = 37) -> list[tuple[list[int], list[int]]]:
    """Sources of one to six letters, and the same backwards."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 7, (n,), generator=generator).tolist()
    sources = [torch.randint(2, 20, (k,), generator=generator).tolist() for k in lengths]
    return [([*source, 1], [*source[::-1], 1]) for source in sources]


def test_smoothing_worked_by_hand() -> None:
    # Probabilities 3/4 and 1/4, the right one first: 0.9 + 0.1/2 of one and 0.1/2 of the other.
    logits = torch.tensor([[[math.log(3), 0.0], [5.0, 5.0]]])
    labels = torch.tensor([[0, IGNORE_INDEX]])
    smooth = summed_cross_entropy(logits, labels, 0.1)
    assert smooth.item() == pytest.approx(-0.95 * math.log(3 / 4) - 0.05 * math.log(1 / 4))
    assert summed_cross_entropy(logits, labels).item() == pytest.approx(-math.log(3 / 4))


@given(epsilon=st.floats(0, 0.9), vocab=st.integers(2, 9), seed=st.integers(0, 99))
def test_both_ways_to_smooth_are_one(epsilon: float, vocab: int, seed: int) -> None:
    """eps' / (V - 1) for the others alone, written out, is torch's with eps = eps' V / (V - 1)."""
    epsilon *= (vocab - 1) / vocab
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, vocab, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocab, (2, 3), generator=generator)
    others = torch.full_like(logits, epsilon / (vocab - 1))
    aim = others.scatter(-1, labels.unsqueeze(-1), 1 - epsilon)
    expected = -(aim * logits.log_softmax(-1)).sum()
    found = summed_cross_entropy(logits, labels, epsilon * vocab / (vocab - 1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_it_is_that_of_torch(epsilon: float) -> None:
    batch = tiny_batches(4).batch(0)
    net = TinyModel()
    terms = NextToken(label_smoothing=epsilon)(net, batch)
    logits = net(batch.ids).flatten(0, 1)
    mean = F.cross_entropy(logits, batch.labels.flatten(), label_smoothing=epsilon)
    torch.testing.assert_close(terms.loss_sum / terms.weight, mean)
    if epsilon:
        plain = F.cross_entropy(logits, batch.labels.flatten())
        torch.testing.assert_close(terms.metrics["cross_entropy"] / terms.weight, plain)
    else:
        assert terms.metrics == {}


def test_the_loss_of_pairs_is_the_sum_of_their_own() -> None:
    """Padding on either side is not scored and changes nothing."""
    net, objective = model(), TargetGivenSource(label_smoothing=0.1)
    batch = PairBatch.of(pairs(6), start_id=0)
    terms = objective(net, batch)
    assert terms.weight == objective.weight(batch) == sum(len(target) for _, target in pairs(6))
    alone = [objective(net, PairBatch.of([pair], start_id=0)).loss_sum for pair in pairs(6)]
    torch.testing.assert_close(terms.loss_sum, torch.stack(alone).sum())


@pytest.mark.parametrize(("rows", "recompute"), [(1, False), (3, False), (8, True)])
def test_one_trajectory(rows: int, recompute: bool) -> None:
    def run(**changes: Any) -> Any:
        return trajectory_of(
            model(),
            PairBatches(pairs(), 8, 5),
            objective=TargetGivenSource(label_smoothing=0.1),
            **changes,
        )

    assert_one_trajectory(run(), run(micro_batch_size=rows, activation_checkpointing=recompute))


def test_a_trainer_trains_it() -> None:
    reports: list[Any] = []
    tiny_trainer(
        model=model(),
        batches=PairBatches(pairs(), 8, 5),
        batch_size=8,
        steps=60,
        objective=TargetGivenSource(label_smoothing=0.1),
        on_step=reports.append,
    ).fit()
    first, last = reports[0].metrics["cross_entropy"], reports[-1].metrics["cross_entropy"]
    assert last < 0.8 * first


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_a_smoothing_that_is_no_share_is_named(epsilon: float) -> None:
    for objective in (NextToken, TargetGivenSource):
        with pytest.raises(ConfigError, match="label_smoothing = "):
            objective(label_smoothing=epsilon)
