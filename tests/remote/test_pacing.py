"""The rate limit, with a clock of the test's own and threads that are none."""

from __future__ import annotations

import heapq
import itertools

import pytest

from pbs_push.remote.pacing import Pacer

SECONDS = 10.0


class Simulation:
    """Takers that send as much as they may, each in frames of its own size."""

    def __init__(self, rate: int, frames: list[int], **options: int) -> None:
        self.now = 0.0
        self.pacer = Pacer(rate, clock=lambda: self.now, **options)
        self.sent = [0] * len(frames)
        self._frames = frames
        self._order = itertools.count()
        self._due = [(0.0, next(self._order), taker) for taker in range(len(frames))]

    def run(self, until: float) -> None:
        while self._due[0][0] < until:
            self.now, _, taker = heapq.heappop(self._due)
            budget, pause_s = self.pacer.allowance(1 << 20)
            assert (budget == 0) == (pause_s > 0)
            if budget:
                frames = -(-budget // self._frames[taker])
                self.sent[taker] += frames * self._frames[taker]
                self.pacer.sent(budget, frames * self._frames[taker])
            heapq.heappush(self._due, (self.now + pause_s, next(self._order), taker))


@pytest.mark.parametrize("rate", [1_000_000, 20_000_000, 1_000_000_000])
@pytest.mark.parametrize(
    "frames", [[16384], [16384] * 4, [1000, 16384, 40_000], [256 << 10] * 2, [13] * 3]
)
def test_the_rate_is_kept_and_nobody_starves(rate: int, frames: list[int]) -> None:
    simulation = Simulation(rate, frames)
    simulation.run(SECONDS)
    total = sum(simulation.sent)
    # A frame is not cut: at most one of each taker comes early.
    assert abs(total - rate * SECONDS) <= 0.05 * rate * SECONDS + max(frames)
    share = total / len(frames)
    assert all(share / 4 <= sent for sent in simulation.sent)


def test_what_was_not_used_is_a_burst_at_most() -> None:
    simulation = Simulation(1_000_000, [10_000], burst=200_000)
    simulation.now = 100.0
    sent = 0
    while (budget := simulation.pacer.allowance(1 << 20)[0]) > 0:
        simulation.pacer.sent(budget, budget)
        sent += budget
    assert sent == 200_000


def test_debt_is_waited_for() -> None:
    simulation = Simulation(1000, [1])
    simulation.pacer.sent(0, 5000)
    budget, pause_s = simulation.pacer.allowance(100)
    assert budget == 0
    assert pause_s == pytest.approx(5.02)
    simulation.now = pause_s
    assert simulation.pacer.allowance(100)[0] == 20


@pytest.mark.parametrize("rate", [1, 2, 49, 50, 51, 1000])
def test_the_slowest_rates_go_on(rate: int) -> None:
    simulation = Simulation(rate, [1, 1])
    simulation.run(100.0)
    assert abs(sum(simulation.sent) - 100 * rate) <= max(5, 5 * rate)
    assert min(simulation.sent) > 0


def test_no_more_than_wanted() -> None:
    simulation = Simulation(1_000_000, [1])
    simulation.now = 1.0
    assert simulation.pacer.allowance(100) == (100, 0.0)
