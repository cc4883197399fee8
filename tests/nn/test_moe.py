"""Mixtures of experts: worked by hand, against `transformers`, the two paths, capacity."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stemma.errors import ConfigError, ModelError
from stemma.nn import GatedMLPConfig, MixtureOfExperts, MoEConfig
from stemma.nn.activation import relu


def layer(
    n_experts: int = 4, n_active: int = 2, *, d_model: int = 4, d_ff: int = 8, **values: Any
) -> MixtureOfExperts:
    return MoEConfig(d_ff=d_ff, n_experts=n_experts, n_active=n_active, **values).build(d_model)


def by_hand(**values: Any) -> MixtureOfExperts:
    """Expert i multiplies the square of a positive feature by 10^i; the router scores 0, x, 2x."""
    experts = MixtureOfExperts(1, 1, n_experts=3, activation=relu, **values).requires_grad_(False)
    experts.router.weight.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
    experts.gate_proj.weight.fill_(1)
    experts.up_proj.weight.fill_(1)
    experts.down_proj.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1))
    return experts


def test_worked_by_hand() -> None:
    x = math.log(2)  # the router's probabilities are 1/7, 2/7, 4/7
    row = torch.tensor([[[x]]])
    for n_active, renormalize, mixed in (
        (1, False, 4 / 7 * 100),
        (2, False, 4 / 7 * 100 + 2 / 7 * 10),
        (2, True, 2 / 3 * 100 + 1 / 3 * 10),
        (3, True, 4 / 7 * 100 + 2 / 7 * 10 + 1 / 7),
    ):
        found = by_hand(n_active=n_active, renormalize=renormalize)(row)
        assert found.item() == pytest.approx(mixed * x**2, rel=1e-6)


@given(
    data=st.data(),
    n_experts=st.integers(1, 7),
    d_ff=st.sampled_from([1, 3, 4, 8]),
    renormalize=st.booleans(),
    seed=st.integers(0, 99),
)
def test_both_paths_and_their_gradients_are_one(
    data: st.DataObject, n_experts: int, d_ff: int, renormalize: bool, seed: int
) -> None:
    """Sizes of whole 16 bytes take torch's grouped products, the others a loop."""
    n_active = data.draw(st.integers(1, n_experts))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 9)))
    renormalize &= n_active > 1
    torch.manual_seed(seed)
    experts = layer(n_experts, n_active, d_ff=d_ff, renormalize=renormalize)
    x = torch.randn(*shape, 4, requires_grad=True)
    inputs = [x, *experts.parameters()]
    slope = torch.randn(*shape, 4)
    one, other = experts(x), experts.forward_by_experts(x)
    torch.testing.assert_close(one, other)
    for mine, twin in zip(
        torch.autograd.grad((one * slope).sum(), inputs),
        torch.autograd.grad((other * slope).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, twin)


def test_it_is_that_of_transformers() -> None:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=8, intermediate_size=12, num_local_experts=5, num_experts_per_tok=3
    )
    torch.manual_seed(0)
    theirs = MixtralSparseMoeBlock(config).requires_grad_(False)
    for parameter in theirs.parameters():
        parameter.normal_()
    ours = layer(5, 3, d_ff=12, d_model=8).requires_grad_(False)
    ours.router.weight.copy_(theirs.gate.weight)
    gate, up = theirs.experts.gate_up_proj.chunk(2, dim=1)
    ours.gate_proj.weight.copy_(gate)
    ours.up_proj.weight.copy_(up)
    ours.down_proj.weight.copy_(theirs.experts.down_proj)
    x = torch.randn(2, 7, 8)
    torch.testing.assert_close(ours(x), theirs(x.clone()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("renormalize", [True, False])
def test_one_expert_is_a_dense_layer(renormalize: bool) -> None:
    sparse = layer(1, 1, renormalize=renormalize)
    dense = GatedMLPConfig(d_ff=8).build(4)
    dense.load_state_dict(
        {f"{n}.weight": getattr(sparse, n).weight[0] for n in ("gate_proj", "up_proj", "down_proj")}
    )
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(sparse(x), dense(x))


def test_equal_experts_whose_weights_sum_to_one_are_a_dense_layer() -> None:
    sparse = layer(4, 2).requires_grad_(False)
    for part in (sparse.gate_proj, sparse.up_proj, sparse.down_proj):
        part.weight[1:] = part.weight[0]
    dense = GatedMLPConfig(d_ff=8).build(4)
    dense.load_state_dict(
        {f"{n}.weight": getattr(sparse, n).weight[0] for n in ("gate_proj", "up_proj", "down_proj")}
    )
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(sparse(x), dense(x))


def test_a_single_choice_teaches_the_router_because_it_is_not_renormalised() -> None:
    experts = layer(4, 1, renormalize=False)
    experts(torch.randn(2, 5, 4)).sum().backward()
    assert experts.router.weight.grad is not None
    assert experts.router.weight.grad.abs().max() > 0
    with pytest.raises(ConfigError, match="the router would learn nothing"):
        MoEConfig.parse({"d_ff": 4, "n_experts": 4, "n_active": 1})


@pytest.mark.parametrize("n_active", [0, 5])
def test_numbers_that_do_not_fit_are_named(n_active: int) -> None:
    with pytest.raises(ModelError, match=f"n_active = {n_active} of n_experts = 4"):
        MixtureOfExperts(2, 2, n_experts=4, n_active=n_active, activation=relu)


def only_first_expert(**values: Any) -> MixtureOfExperts:
    """Every token prefers expert 0, then 1."""
    experts = layer(4, 2, **values).requires_grad_(False)
    experts.router.weight.zero_()
    experts.router.weight[:, 0] = torch.tensor([3.0, 2.0, 1.0, 0.0])
    return experts


def test_what_is_beyond_the_capacity_adds_nothing() -> None:
    experts = only_first_expert(capacity_factor=1.0).train()
    torch.manual_seed(0)
    x = torch.cat([torch.ones(2, 8, 1), torch.randn(2, 8, 3)], dim=-1)
    y = experts(x)
    # Of 8 x 2 choices each of 4 experts takes 4: the first four positions have both of theirs.
    assert experts.routing is not None
    assert experts.routing.dropped.item() == 0.5
    assert (y[:, 4:] == 0).all()
    assert (y[:, :4] != 0).any(-1).all()
    torch.testing.assert_close(y, experts.train().forward_by_experts(x))
    experts.eval()
    torch.testing.assert_close(experts(x)[:, :4], y[:, :4])
    assert (experts(x)[:, 4:] != 0).any(-1).all()
    assert experts.routing.dropped.item() == 0


@given(seed=st.integers(0, 99), factor=st.sampled_from([0.3, 0.6, 1.0, 1.5]))
def test_capacity_is_causal_and_of_each_row_by_itself(seed: int, factor: float) -> None:
    torch.manual_seed(seed)
    experts = layer(4, 2, capacity_factor=factor).train()
    x, others = torch.randn(3, 9, 4), torch.randn(3, 9, 4)
    changed = torch.cat([x[:, :5], others[:, 5:]], dim=1)
    torch.testing.assert_close(experts(changed)[:, :5], experts(x)[:, :5])
    torch.testing.assert_close(experts(x[1:2]), experts(x)[1:2])


def test_a_large_capacity_drops_nothing() -> None:
    experts = only_first_expert(capacity_factor=4.0).train()
    experts(torch.ones(1, 8, 4))
    assert experts.routing is not None
    assert experts.routing.dropped.item() == 0


def test_jitter_is_of_training_alone_and_of_the_router_alone() -> None:
    experts = layer(4, 4, jitter=0.5).eval()
    x = torch.randn(1, 64, 4)

    def logits() -> Tensor:
        experts(x)
        assert experts.routing is not None
        return experts.routing.logits

    assert torch.equal(logits(), logits())
    experts.train()
    assert not torch.equal(logits(), logits())
    bounds = 0.5 * x.abs() @ experts.router.weight.abs().mT + 1e-6
    assert ((logits() - experts.eval().router(x)).abs() <= bounds).all()


def test_the_router_computes_in_float32() -> None:
    experts = layer().to(torch.bfloat16)
    x = torch.randn(2, 5, 4, dtype=torch.bfloat16)
    assert experts(x).dtype == torch.bfloat16
    assert experts.routing is not None
    exact = x.float() @ experts.router.weight.float().mT
    assert torch.equal(experts.routing.logits, exact)
    with torch.autocast("cpu", torch.bfloat16):
        layer_ = layer()
        y = layer_(x)
        assert layer_.routing is not None
        assert layer_.routing.logits.dtype == torch.float32
        assert y.dtype == torch.bfloat16


def test_a_model_can_be_copied_after_a_pass_with_gradients() -> None:
    experts = layer()
    experts(torch.randn(1, 3, 4))
    twin = copy.deepcopy(experts)
    assert twin.routing is None
    assert experts.routing is not None
    x = torch.randn(1, 3, 4)
    assert torch.equal(twin(x), experts(x))


@pytest.mark.slow
def test_compiled_is_uncompiled() -> None:
    torch.manual_seed(0)
    experts = layer(capacity_factor=1.0).train()
    x = torch.randn(2, 6, 4)
    slow = experts(x)
    (slow.square().sum() + experts.routing.balance_loss().sum()).backward()
    wanted = {name: p.grad.clone() for name, p in experts.named_parameters()}
    experts.zero_grad()
    experts.compile()
    fast = experts(x)
    (fast.square().sum() + experts.routing.balance_loss().sum()).backward()
    torch.testing.assert_close(fast, slow)
    for name, parameter in experts.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name])
