"""Compilation: the same numbers, the same names, and a way on where it cannot be had."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

import pytest
import torch
from tiny_training import CONTEXT_LENGTH, VOCAB_SIZE, TinyModel
from torch import Tensor, nn

from stemma.errors import ConfigError
from stemma.training.compilation import maybe_compile
from stemma.training.memory import apply_activation_checkpointing


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


def ids() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCAB_SIZE, (3, CONTEXT_LENGTH), generator=generator)


def outcome(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    logits = model(ids())
    logits.logsumexp(-1).square().sum().backward()
    return logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(first: nn.Module, second: nn.Module) -> None:
    (logits, gradients), (their_logits, their_gradients) = outcome(first), outcome(second)
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], rtol=1e-4, atol=1e-4)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("stemma.")]


def is_compiled(model: TinyModel) -> bool:
    return all(block._compiled_call_impl is not None for block in model.blocks)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler (g++)")
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_compiled_model_computes_the_same(
    checkpointed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    eager, compiled = TinyModel(), TinyModel()
    if checkpointed:
        apply_activation_checkpointing(compiled)
    assert maybe_compile(compiled) is compiled
    assert_same(eager, compiled)
    assert is_compiled(compiled)
    assert not said(caplog)


def test_names_stay_and_disabled_means_untouched() -> None:
    model = TinyModel()
    names = list(model.state_dict())
    assert maybe_compile(model, enabled=False) is model
    assert not is_compiled(model)
    maybe_compile(model)
    assert is_compiled(model)
    assert list(model.state_dict()) == names
    assert [name for name, _ in model.named_parameters()] == names


def test_without_a_compiler_training_goes_on_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    eager, model = TinyModel(), TinyModel()
    maybe_compile(model)
    with caplog.at_level(logging.WARNING, logger="stemma"):
        assert_same(eager, model)
    lines = said(caplog)
    assert len(lines) == 1
    assert "compile: not possible here, training uncompiled" in lines[0]
    assert "compiler" in lines[0]
    assert "\n" not in lines[0]
    assert not is_compiled(model)


def test_an_unsupported_platform_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("torch.compile is not supported on Python 9.9+")

    monkeypatch.setattr(torch, "compile", refuse)
    model = TinyModel()
    with caplog.at_level(logging.WARNING, logger="stemma"):
        maybe_compile(model)
    assert "not supported on Python 9.9+" in caplog.text
    assert_same(TinyModel(), model)


def test_a_models_own_error_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyModel()
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    maybe_compile(model)
    with pytest.raises(IndexError):
        model(torch.full((1, 2), VOCAB_SIZE))
    assert is_compiled(model)


def test_without_gradients_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def watched(function: Callable[..., Tensor], **options: object) -> Callable[..., Tensor]:
        def call(*args: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", watched)
    model = maybe_compile(TinyModel())
    with torch.no_grad():
        expected = model(ids())
    assert calls == []
    assert torch.equal(model(ids()), expected)
    assert calls == [True, True]


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="compilation works on a model's blocks"):
        maybe_compile(nn.Linear(2, 2))
