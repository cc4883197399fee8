"""One thread for small work: in calls within each other, side by side, and after an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest
import torch

from stemma.inference.one_thread import on_one_thread

USUAL = 3


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(USUAL)
    yield
    torch.set_num_threads(before)


@on_one_thread
def count() -> int:
    return torch.get_num_threads()


def in_a_thread(function: Callable[[], None]) -> Thread:
    thread = Thread(target=function)
    thread.start()
    return thread


def test_a_call_within_a_call() -> None:
    @on_one_thread
    def outer() -> tuple[int, int]:
        return count(), torch.get_num_threads()

    assert outer() == (1, 1)
    assert torch.get_num_threads() == USUAL


def test_an_error_gives_the_threads_back() -> None:
    @on_one_thread
    def failing() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        failing()
    assert torch.get_num_threads() == USUAL
    assert count() == 1


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_a_thread_that_begins_meanwhile_gets_its_number_too(first_ends_first: bool) -> None:
    """It finds one thread as it begins; that is not what it is left with."""
    entered, second_in, first_may_end, second_may_end = (Event() for _ in range(4))
    seen: dict[str, list[int]] = {"first": [], "second": []}

    @on_one_thread
    def first() -> None:
        entered.set()
        first_may_end.wait(60)
        seen["first"].append(torch.get_num_threads())

    @on_one_thread
    def second() -> None:
        second_in.set()
        second_may_end.wait(60)
        seen["second"].append(torch.get_num_threads())

    def run(name: str, function: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            function()
            seen[name].append(torch.get_num_threads())

        return both

    threads = [in_a_thread(run("first", first))]
    entered.wait(60)
    threads.append(in_a_thread(run("second", second)))
    second_in.wait(60)
    turns = [(first_may_end, threads[0]), (second_may_end, threads[1])]
    for may_end, thread in turns if first_ends_first else turns[::-1]:
        may_end.set()
        thread.join(60)
    assert seen == {"first": [1, USUAL], "second": [1, USUAL]}
    later: list[int] = []
    in_a_thread(lambda: later.append(torch.get_num_threads())).join(60)
    assert later == [USUAL]
    assert torch.get_num_threads() == USUAL
