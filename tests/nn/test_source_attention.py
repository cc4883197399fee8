"""The attentions of recurrent decoders: worked by hand, slopes, masks, permutations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stemma.errors import ModelError
from stemma.nn.source_attention import (
    AdditiveScore,
    LocalSourceAttention,
    SourceAttention,
    SourceAttentionConfig,
)

KINDS = ("additive", "dot", "general")
D = 4


def build(kind: str, window: int | None = None, seed: int = 0) -> SourceAttention:
    torch.manual_seed(seed)
    config = SourceAttentionConfig.parse({"score": {"kind": kind}, "window": window})
    return config.build(D, D).double()


def example(seed: int, n_words: list[int], target: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(len(n_words), max(n_words), D, generator=generator, dtype=torch.float64)
    states = torch.randn(len(n_words), target, D, generator=generator, dtype=torch.float64)
    mask = torch.arange(max(n_words)) < torch.tensor(n_words)[:, None]
    return states, source, mask


def filled(layer: Any, **values: list[list[float]]) -> Any:
    for name, value in values.items():
        layer.get_submodule(name).weight.data = torch.tensor(value)
    return layer


# The decoder's state is (1, 2); the encoder's are (0, 1), (1, 0) and (1, 1), the last one padding.
STATE = torch.tensor([[[1.0, 2.0]]])
SOURCE = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
MASK = torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    ("kind", "weights", "scores"),
    [
        ("dot", {}, (2.0, 1.0)),
        # W h is the first column for (1, 0), the second for (0, 1): s (3, 0) and s (0, -1).
        ("general", {"score.key_proj": [[3.0, 0.0], [0.0, -1.0]]}, (-2.0, 3.0)),
        # One hidden feature: 2 tanh(s_1 - h_1 + 3 h_2).
        (
            "additive",
            {
                "score.query_proj": [[1.0, 0.0]],
                "score.key_proj": [[-1.0, 3.0]],
                "score.score_proj": [[2.0]],
            },
            (2 * math.tanh(4), 2 * math.tanh(0)),
        ),
    ],
)
def test_global_attention_worked_by_hand(
    kind: str, weights: dict[str, list[list[float]]], scores: tuple[float, float]
) -> None:
    layer = filled(SourceAttentionConfig.parse({"score": {"kind": kind}}).build(2, 2), **weights)
    context, found = layer(STATE, layer.read(SOURCE, MASK))
    first = math.exp(scores[0]) / (math.exp(scores[0]) + math.exp(scores[1]))
    assert found.flatten().tolist() == pytest.approx([first, 1 - first, 0])
    assert context.flatten().tolist() == pytest.approx([1 - first, first])


def test_local_attention_worked_by_hand() -> None:
    config = SourceAttentionConfig.parse({"score": {"kind": "dot"}, "window": 2})
    layer = filled(config.build(1, 1), place_proj=[[1.0]], place_score=[[math.log(2)]])
    assert isinstance(layer, LocalSourceAttention)
    # A state of 0 looks at the middle of 6 words, 3: words 1 to 5 are within 2, all scores 0.
    states, mask = torch.zeros(1, 1, 1), torch.arange(7)[None] < 6
    source = layer.read(torch.arange(7.0).view(1, 7, 1), mask)
    assert layer.places(states, source).item() == 3
    # And a large one, whose tanh is 1, at 2/3 of them.
    assert layer.places(states + 99, source).item() == pytest.approx(4)
    bell = [math.exp(-(d**2) / (2 * 1**2)) / 5 for d in (-2, -1, 0, 1, 2)]
    context, weights = layer(states, source)
    assert weights.flatten().tolist() == pytest.approx([0, *bell, 0])
    assert context.item() == pytest.approx(
        sum(w * j for w, j in zip(bell, range(1, 6), strict=True))
    )


def test_luongs_concat_is_additive() -> None:
    torch.manual_seed(0)
    score = AdditiveScore(D, 3, 5)
    states, source = torch.randn(2, 4, D), torch.randn(2, 6, 3)
    pairs = torch.cat(
        [states[:, :, None].expand(-1, -1, 6, -1), source[:, None].expand(-1, 4, -1, -1)], dim=-1
    )
    both = torch.cat([score.query_proj.weight, score.key_proj.weight], dim=1)
    concat = torch.tanh(F.linear(pairs, both)) @ score.score_proj.weight[0]
    torch.testing.assert_close(score(states, score.prepare(source)), concat)


def test_dot_attention_is_torchs() -> None:
    states, source, mask = example(0, [5, 3])
    layer = build("dot")
    context, _ = layer(states, layer.read(source, mask))
    theirs = F.scaled_dot_product_attention(
        states, source, source, attn_mask=mask[:, None], scale=1.0
    )
    torch.testing.assert_close(context, theirs)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes(kind: str, window: int | None) -> None:
    layer = build(kind, window)
    states, source, mask = example(1, [5, 3], target=2)
    states.requires_grad_()
    source.requires_grad_()
    parameters = list(layer.parameters())

    def outputs(states: Tensor, source: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return layer(states, layer.read(source, mask))

    assert torch.autograd.gradcheck(outputs, (states, source, *parameters))


@given(
    kind=st.sampled_from(KINDS),
    window=st.sampled_from([None, 1, 3]),
    n_words=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_weights_are_zero_at_padding_and_what_stands_there_does_not_matter(
    kind: str, window: int | None, n_words: list[int], seed: int
) -> None:
    layer = build(kind, window, seed)
    states, source, mask = example(seed, n_words)
    context, weights = layer(states, layer.read(source, mask))
    assert (weights.masked_select(~mask[:, None]) == 0).all()
    assert (weights >= 0).all()
    sums = weights.sum(-1)
    if window is None:
        torch.testing.assert_close(sums, torch.ones_like(sums))
    else:
        assert (sums <= 1 + 1e-12).all()
        assert (sums > 0).all()
    other = torch.where(mask[..., None], source, 1e3)
    torch.testing.assert_close(layer(states, layer.read(other, mask))[0], context)
    for row, length in enumerate(n_words):
        alone, _ = layer(states[[row]], layer.read(source[[row], :length]))
        torch.testing.assert_close(alone, context[[row]])


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), data=st.data())
def test_the_order_of_the_source_is_that_of_the_weights(
    kind: str, seed: int, data: st.DataObject
) -> None:
    layer = build(kind, seed=seed)
    states, source, mask = example(seed, [6, 4])
    order = data.draw(st.permutations(range(6)))
    context, weights = layer(states, layer.read(source, mask))
    permuted, others = layer(states, layer.read(source[:, order], mask[:, order]))
    torch.testing.assert_close(permuted, context)
    torch.testing.assert_close(others, weights[..., order])


@given(window=st.sampled_from([1, 2, 5]), seed=st.integers(0, 99))
def test_local_attention_looks_nowhere_else(window: int, seed: int) -> None:
    layer = build("general", window, seed)
    assert isinstance(layer, LocalSourceAttention)
    states, source, mask = example(seed, [9, 4])
    read = layer.read(source, mask)
    places = layer.places(states, read)
    assert (places >= 0).all()
    assert (places <= mask.sum(-1).view(-1, 1, 1)).all()
    _, weights = layer(states, read)
    far = (torch.arange(9) - places).abs() > window
    assert (weights[far] == 0).all()


def test_padding_in_front_does_not_move_the_predicted_place() -> None:
    layer = build("dot", 2)
    states, source, mask = example(0, [5])
    padded = F.pad(source, (0, 0, 2, 0)), F.pad(mask, (2, 0))
    _, behind = layer(states, layer.read(source, mask))
    _, before = layer(states, layer.read(*padded))
    torch.testing.assert_close(before[..., 2:], behind)


def test_a_source_without_words_has_no_weights_and_is_no_accident() -> None:
    for window in (None, 2):
        layer = build("dot", window)
        states, source, _ = example(0, [3])
        context, weights = layer(states, layer.read(source, torch.zeros(1, 3, dtype=torch.bool)))
        assert (weights == 0).all()
        assert (context == 0).all()


def test_states_of_two_sizes_have_no_product() -> None:
    config = SourceAttentionConfig.parse({"score": {"kind": "dot"}})
    with pytest.raises(ModelError, match="states of 3 and 4 features have no product"):
        config.build(3, 4)
    config = SourceAttentionConfig.parse({"score": {"kind": "general"}})
    layer = config.build(3, 4)
    assert layer(torch.ones(1, 2, 3), layer.read(torch.ones(1, 5, 4)))[0].shape == (1, 2, 4)
