"""The kernels alone, against numpy and torch in float64."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.inference.engine.large_pages import settle
from stemma.inference.engine.tables import KINDS
from stemma.inference.engine.team import Team, team
from stemma.inference.kernels import layout
from stemma.inference.kernels.arithmetic import activate, exponential, norm, products, softmax
from stemma.inference.kernels.machine import MEETING_SIZE, meet, share, write_bfloat16
from stemma.inference.quantisation import QuantisedLinear
from stemma.nn.activation import ACTIVATIONS
from stemma.tokenizers.kernels import lean_kernel


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@lean_kernel
def exponentials(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exponential(x[i])


@lean_kernel
def rounded(x: Any, address: int) -> None:
    for i in range(x.size):
        write_bfloat16(address, i, x[i])


@lean_kernel
def count_together(thread: int, n_threads: int, meeting: Any, counts: Any, ok: Any) -> None:
    """Each adds to its own number, meets, and finds that all others are as far."""
    for i in range(counts.shape[1]):
        counts[thread, i] = 1
        if not meet(meeting, n_threads):
            ok[thread] = -1
            return
        for other in range(n_threads):
            if counts[other, i] != 1:
                ok[thread] = 0


def test_exponential_is_within_two_in_ten_million() -> None:
    x = np.concatenate([np.linspace(-87, 88, 100_001), [0.0, -0.0, 1.0, -1.0]]).astype(np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(out / exact - 1).max() < 2e-7
    assert out[-4] == out[-3] == 1
    extreme = np.array([-1000.0, -88.0, 1000.0], np.float32)
    exponentials(extreme, out[:3])
    assert 0 < out[0] == out[1] < 1e-37
    assert 1e38 < out[2] < np.inf


def test_bfloat16_is_rounded_to_even() -> None:
    """1 + 2^-8 lies between 1 and 1 + 2^-7: to the even 1; 1 + 3 * 2^-8 to the even 1 + 2^-6."""
    x = torch.cat([torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -0.0, 3e38]), noise(1000)])
    out = torch.empty(len(x), dtype=torch.bfloat16)
    rounded(x.numpy(), out.data_ptr())
    assert out[:2].tolist() == [1.0, 1 + 2**-6]
    assert torch.equal(out, x.bfloat16())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float32", "bfloat16", "int8", "int4"]),
    st.tuples(*[st.integers(1, top) for top in (9, 13, 130)]),
    st.integers(0, 100),
    st.data(),
)
def test_products(kind: str, sizes: tuple[int, int, int], seed: int, data: st.DataObject) -> None:
    n_rows, n_out, n_in = sizes
    if kind == "int4":
        n_in = 32 * (1 + n_in % 4)
    weight, x = noise(n_out, n_in, seed=seed), noise(n_rows, n_in, seed=seed + 1)
    scales = torch.zeros(0)
    if kind.startswith("int"):
        layer = QuantisedLinear(weight, None, kind)
        given_, scales, code = layer.values, layer.scales, KINDS[kind]
        exact = layer.weight if kind == "int4" else layer.values
    else:
        given_ = exact = weight.to(getattr(torch, kind))
        code = KINDS[given_.dtype]
    first = data.draw(st.integers(0, n_out))
    last = data.draw(st.integers(first, n_out))
    out = torch.full((n_rows, n_out), 7.0)
    places = [given_.data_ptr(), given_.stride(0) * given_.itemsize, scales.data_ptr()]
    products(
        code, *places, x.data_ptr(), 4 * n_in, n_rows, n_in, out.data_ptr(), 4 * n_out, first, last
    )
    expected = torch.full((n_rows, n_out), 7.0, dtype=torch.float64)
    expected[:, first:last] = (x.double() @ exact.double().T)[:, first:last]
    bound = x.double().abs() @ exact.double().abs().T + 7
    assert ((out - expected).abs() <= 2e-6 * bound).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nonlinearities(name: Any) -> None:
    x = torch.cat([torch.linspace(-30, 30, 997), torch.tensor([0.0, 100.0, -100.0])])
    out = x.clone()
    activate(out.data_ptr(), len(out), getattr(layout, name.upper()))
    torch.testing.assert_close(out, ACTIVATIONS[name](x.double()).float(), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("biased", [True, False])
def test_norms(n: int, biased: bool) -> None:
    x, gain, bias = noise(n) + 3, noise(n, seed=1), noise(n, seed=2)
    for is_rms in (True, False):
        out = torch.empty(n)
        places = [out.data_ptr(), n, gain.data_ptr(), bias.data_ptr() if biased else 0]
        norm(x.data_ptr(), *places, int(is_rms), 1e-5)
        wide = [t.double() for t in (x, gain, bias)]
        expected = (
            F.rms_norm(wide[0], (n,), wide[1], 1e-5)
            if is_rms
            else F.layer_norm(wide[0], (n,), wide[1], None, 1e-5)
        )
        expected = expected + wide[2] * biased
        torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 33, 1000])
def test_softmax(n: int) -> None:
    x = 20 * noise(n)
    out = x.clone()
    softmax(out.data_ptr(), n, 0.3)
    torch.testing.assert_close(out, (0.3 * x.double()).softmax(-1).float(), atol=1e-7, rtol=1e-5)


@given(st.integers(0, 50), st.integers(1, 5), st.integers(1, 9))
def test_shares_are_all_and_disjoint(n: int, step: int, n_threads: int) -> None:
    parts = [share(n, step, thread, n_threads) for thread in range(n_threads)]
    assert [i for first, last in parts for i in range(first, last)] == list(range(n))
    assert all(first % step == 0 or first == n for first, _ in parts)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_meet(n_threads: int) -> None:
    counts, ok = np.zeros((n_threads, 300), np.int64), np.ones(n_threads, np.int64)
    Team().run(count_together, n_threads, counts, ok)
    assert ok.all()
    assert counts.all()


def test_an_interrupt_ends_the_work_of_the_others() -> None:
    """The thread that asks stops before the first meeting, where the others wait for it."""
    counts, ok = np.zeros((3, 5), np.int64), np.ones(3, np.int64)

    def interrupted(thread: int, *arguments: Any) -> None:
        if thread == 0:
            raise KeyboardInterrupt
        count_together(thread, *arguments)

    crew = Team()
    with pytest.raises(KeyboardInterrupt):
        crew.run(interrupted, 3, counts, ok)
    assert ok.tolist() == [1, -1, -1]
    counts[:], ok[:] = 0, 1
    crew.run(count_together, 3, counts, ok)
    assert ok.all()


def test_an_error_of_another_thread_reaches_the_one_that_asks() -> None:
    """The others wait for it at the first meeting; afterwards the team serves again."""
    counts, ok = np.zeros((3, 5), np.int64), np.ones(3, np.int64)

    def failing(thread: int, *arguments: Any) -> None:
        if thread == 1:
            raise ValueError("not of any use")
        count_together(thread, *arguments)

    crew, outcome = Team(), []

    def ask() -> None:
        with pytest.raises(ValueError, match="not of any use"):
            crew.run(failing, 3, counts, ok)
        outcome.append(ok.tolist())
        counts[:], ok[:] = 0, 1
        crew.run(count_together, 3, counts, ok)
        outcome.append(ok.tolist())

    asker = threading.Thread(target=ask, daemon=True)  # so that a team that hangs is a failure
    asker.start()
    asker.join(60)
    assert outcome == [[-1, 1, -1], [1, 1, 1]]


def test_one_piece_of_work_at_a_time() -> None:
    oks = [np.ones(2, np.int64) for _ in range(6)]
    askers = [
        threading.Thread(
            target=team().run, args=(count_together, 2, np.zeros((2, 100), np.int64), ok)
        )
        for ok in oks
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert all(ok.all() for ok in oks)
    assert MEETING_SIZE * 8 == 3 * 64


def test_settling_changes_nothing_but_the_place() -> None:
    model = nn.Sequential(nn.Linear(3000, 3000), nn.Linear(5, 0), nn.BatchNorm1d(4))
    model[1].weight = nn.Parameter(torch.empty(0, 5).bfloat16())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    places = {name: value.data_ptr() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    assert settle(model)
    assert not settle(model)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert places["0.weight"] != after["0.weight"].data_ptr()
    assert all(value.data_ptr() % 64 == 0 for value in after.values() if value.numel())
    assert not settle(nn.Linear(10, 10))


def test_a_settled_model_can_learn() -> None:
    """Text is generated where no gradients are; the weights must not stay in that world."""
    model = nn.Linear(3000, 3000)
    with torch.inference_mode():
        assert settle(model)
    model(torch.ones(1, 3000)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert model.weight.grad is not None
