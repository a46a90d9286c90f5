"""Threads that share a row of tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pbs_push.push.crew import Crew


def never() -> None:
    pytest.fail("nothing is to be stopped")


def test_every_task_is_done_once_and_in_order() -> None:
    lock, begun = threading.Lock(), []

    def work(task: int) -> None:
        with lock:
            begun.append(task)

    Crew(range(1, 101), work, 4).run(never)
    assert sorted(begun) == list(range(1, 101))
    Crew(range(1, 101), begun.append, 1).run(never)
    assert begun[100:] == list(range(1, 101))


def test_no_more_at_once_than_there_are_members() -> None:
    meet = threading.Barrier(3)

    def work(_task: int) -> None:
        meet.wait(10)

    Crew(range(1, 31), work, 3).run(never)
    assert not meet.broken


@pytest.mark.parametrize("count", [100, 400])
def test_what_it_costs_is_linear(count: int) -> None:
    """A task is taken once, when a member is free, and not looked at again."""
    taken = 0
    done = threading.Semaphore(0)

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(1, count + 1):
            taken += 1
            yield number

    looked: list[int] = []

    def work(_task: int) -> None:
        looked.append(taken)
        done.release()

    Crew(tasks(), work, 2).run(never)
    assert taken == count
    assert max(now - before for before, now in enumerate(sorted(looked))) <= 2, "taken ahead"


def test_an_error_ends_it_and_stops_the_others() -> None:
    stopped = threading.Event()
    begun = []

    def work(task: int) -> None:
        begun.append(task)
        if task == 3:
            raise LookupError("three")
        if task > 3:
            assert stopped.wait(10)

    with pytest.raises(LookupError, match="three"):
        Crew(range(1, 100), work, 2).run(stopped.set)
    assert max(begun) <= 5
    assert stopped.is_set()


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def work(_task: int) -> None:
        stopped.wait(10)

    crew = Crew(range(1, 100), work, 2)

    def interrupted(_thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_await", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crew.run(stopped.set)
    assert stopped.is_set()
    assert threading.active_count() == 1 or not [
        thread for thread in threading.enumerate() if thread.name.startswith("push-")
    ]
