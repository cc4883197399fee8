"""A block: where the norms stand, and the way around the sublayers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stemma.nn import Block, LayerNorm, MultiHeadAttention, Placement
from stemma.nn.activation import gelu
from stemma.nn.feedforward import MLP


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def block(placement: Placement, residual: bool = True, dropout: float = 0.0) -> Block:
    norms: list[nn.Module] = (
        [nn.Identity(), nn.Identity()] if placement == "none" else [LayerNorm(8), LayerNorm(8)]
    )
    sandwich = placement == "sandwich"
    built = Block(
        MultiHeadAttention(8, 2),
        MLP(8, 16, activation=gelu),
        *norms,
        post_norm1=LayerNorm(8) if sandwich else None,
        post_norm2=LayerNorm(8) if sandwich else None,
        placement=placement,
        residual=residual,
        dropout=dropout,
    )
    for i, parameter in enumerate(built.parameters()):
        parameter.requires_grad_(False).copy_(normal(*parameter.shape, seed=i))
    return built


def expected(part: Block, x: Tensor, placement: Placement, residual: bool) -> Tensor:
    for sublayer, norm, post_norm in (
        (part.attention, part.norm1, part.post_norm1),
        (part.feedforward, part.norm2, part.post_norm2),
    ):
        around = x if residual else 0
        if placement == "pre":
            x = around + sublayer(norm(x))
        elif placement == "post":
            x = norm(around + sublayer(x))
        elif placement == "sandwich":
            x = around + post_norm(sublayer(norm(x)))
        else:
            x = around + sublayer(x)
    return x


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("placement", ["pre", "post", "sandwich", "none"])
def test_each_placement_is_its_formula(placement: Placement, residual: bool) -> None:
    part = block(placement, residual)
    x = normal(2, 5, 8, seed=99)
    wanted = expected(part, x, placement, residual)
    torch.testing.assert_close(part(x), wanted)
    out, weights = part.forward_with_weights(x)
    torch.testing.assert_close(out, wanted, atol=1e-4, rtol=1e-4)
    assert weights.shape == (2, 2, 5, 5)


def test_a_post_norm_block_gives_what_its_norm_gives() -> None:
    out = block("post")(normal(2, 5, 8))
    part = block("post")
    unit = (out - part.norm2.bias) / part.norm2.weight
    torch.testing.assert_close(unit.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)


def test_without_a_residual_connection_nothing_passes_by() -> None:
    part = block("pre", residual=False)
    part.feedforward.down_proj.weight.zero_()
    part.feedforward.down_proj.bias.zero_()
    assert part(normal(1, 3, 8)).abs().max() == 0


def test_dropout_of_sublayers() -> None:
    part = block("pre", residual=False, dropout=0.5)
    x = normal(1, 50, 8)
    part.eval()
    assert (part(x) != 0).all()
    part.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        share = float((part(x) == 0).float().mean())
    assert share == pytest.approx(0.5, abs=0.1)


def test_under_autocast_sublayers_get_rounded_input_and_the_residual_stream_stays_wide() -> None:
    part = block("pre")
    seen: list[torch.dtype] = []
    part.attention.q_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    x = normal(2, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = part(x)
    assert seen == [torch.bfloat16]
    assert out.dtype == torch.float32
    assert (out - part(x)).norm() < 0.02 * out.norm()
