"""Activation checkpointing: the same gradients for less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_training import CONTEXT_LENGTH, VOCAB_SIZE, TinyModel
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from stemma.errors import ConfigError
from stemma.training.memory import apply_activation_checkpointing


def ids() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCAB_SIZE, (3, CONTEXT_LENGTH), generator=generator)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model(ids()).logsumexp(-1).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def saved_bytes(model: nn.Module) -> int:
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(ids())
    return sum(sizes)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_the_same_dropout_included(dropout: float) -> None:
    model = TinyModel(dropout=dropout)
    plain = gradients(model)
    apply_activation_checkpointing(model)
    again = gradients(model)
    assert plain.keys() == again.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_gradients_under_autocast_are_the_same() -> None:
    model = TinyModel()
    with torch.autocast("cpu", torch.bfloat16):
        plain = gradients(model)
        apply_activation_checkpointing(model)
        again = gradients(model)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_less_is_kept_for_the_backward_pass_and_once_is_enough() -> None:
    model = TinyModel()
    plain = saved_bytes(model)
    apply_activation_checkpointing(model)
    once = saved_bytes(model)
    forwards = [block.forward for block in model.blocks]
    apply_activation_checkpointing(model)
    assert once < 0.6 * plain
    assert [block.forward for block in model.blocks] == forwards


def test_names_stay_and_a_copy_has_its_own_weights() -> None:
    model = TinyModel()
    names = list(model.state_dict())
    apply_activation_checkpointing(model)
    assert list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    before = model(ids())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(ids()), before)
    assert twin(ids()).abs().max() == 0


def test_without_gradients_a_block_runs_once() -> None:
    model = TinyModel()
    apply_activation_checkpointing(model)
    with torch.no_grad():
        assert not model(ids()).requires_grad


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="activation checkpointing works on a model's blocks"):
        apply_activation_checkpointing(nn.Linear(2, 2))
