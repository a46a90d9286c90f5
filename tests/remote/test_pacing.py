"""The rate limit, with a clock of the test's own and connections that are none."""

from __future__ import annotations

import heapq
import itertools
from types import SimpleNamespace

import pytest

from pbs_push.remote import pacing
from pbs_push.remote.pacing import Paced, Pacer, encrypted_size

SECONDS = 10.0


class Simulation:
    """Connections that send all they may, each time with a request's head of its own size more."""

    def __init__(self, rate: int, heads: list[int], **options: int) -> None:
        self.now = 0.0
        self.pacer = Pacer(rate, clock=lambda: self.now, **options)
        self.lanes = [self.pacer.lane() for _ in heads]
        self.sent = [0] * len(heads)
        self.turns: list[int] = []
        self._heads = heads
        self._order = itertools.count()
        self._due = [(0.0, next(self._order), number) for number in range(len(heads))]

    def run(self, until: float, late_s: float = 0.0) -> None:
        """Every wait takes ``late_s`` longer than it should, as waits do."""
        while self._due[0][0] < until:
            self.now, _, number = heapq.heappop(self._due)
            budget, pause_s = self.lanes[number].allowance(1 << 20)
            assert (budget == 0) == (pause_s > 0)
            if budget:
                size = budget + self._heads[number]
                self.sent[number] += size
                self.lanes[number].sent(size)
                self.turns.append(number)
            again = self.now + (pause_s + late_s if pause_s else 0.0)
            heapq.heappush(self._due, (again, next(self._order), number))


@pytest.mark.parametrize("rate", [100_000, 300_000, 1_000_000, 10_000_000, 100_000_000])
@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("late_s", [0.0, 0.003])
def test_the_rate_is_kept_and_shared(rate: int, lanes: int, late_s: float) -> None:
    simulation = Simulation(rate, [300 * (number % 2) for number in range(lanes)])
    simulation.run(SECONDS, late_s)
    total = sum(simulation.sent)
    assert abs(total - rate * SECONDS) <= 0.05 * rate * SECONDS
    fair = total / lanes
    assert all(abs(sent - fair) <= 0.2 * fair for sent in simulation.sent)


def test_who_asks_first_goes_first() -> None:
    simulation = Simulation(100_000, [0] * 5)
    simulation.run(1.0)
    assert len(simulation.turns) >= 45
    assert simulation.turns == [turn % 5 for turn in range(len(simulation.turns))]


def test_what_was_not_used_is_a_burst_at_most() -> None:
    simulation = Simulation(1_000_000, [0], burst=200_000)
    simulation.now = 100.0
    sent = 0
    while (budget := simulation.lanes[0].allowance(1 << 20)[0]) > 0:
        simulation.lanes[0].sent(budget)
        sent += budget
    assert sent == 200_000


def test_what_is_given_back_others_may_use() -> None:
    simulation = Simulation(1000, [0, 0], burst=20)
    simulation.now = 1.0
    idle, busy = simulation.lanes
    assert idle.allowance(100) == (20, 0.0)
    assert busy.allowance(100) == (0, pytest.approx(0.02))
    idle.sent(0)
    simulation.now += 0.02
    assert busy.allowance(100) == (20, 0.0)
    busy.sent(20)
    assert idle.allowance(100) == (20, 0.0)


def test_debt_is_waited_for() -> None:
    simulation = Simulation(1000, [0])
    simulation.pacer.take(5000)
    budget, pause_s = simulation.lanes[0].allowance(100)
    assert budget == 0
    assert pause_s == pytest.approx(5.02)
    assert simulation.lanes[0].allowance(100)[1] == pause_s  # asking again costs nothing
    simulation.now = 5.1
    assert simulation.lanes[0].allowance(100)[0] == 20


@pytest.mark.parametrize("rate", [1, 2, 49, 50, 51, 1000])
def test_the_slowest_rates_go_on(rate: int) -> None:
    simulation = Simulation(rate, [0, 0])
    simulation.run(100.0)
    assert abs(sum(simulation.sent) - 100 * rate) <= max(5, 5 * rate)
    assert min(simulation.sent) > 0


def test_no_more_than_wanted() -> None:
    simulation = Simulation(1_000_000, [0])
    simulation.now = 1.0
    assert simulation.lanes[0].allowance(100) == (100, 0.0)


def test_records_cost_some_bytes() -> None:
    sizes = [encrypted_size(count) for count in (0, 1, 16384, 16385, 1 << 20)]
    assert sizes == [0, 23, 16406, 16429, (1 << 20) + 64 * 22]


def test_content_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(pacing, "time", SimpleNamespace(sleep=sleep))
    content = bytes(range(256)) * 2000
    pacer = Pacer(100_000, clock=lambda: now[0])
    asked: list[None] = []
    paced = Paced(content, pacer, lambda: asked.append(None))
    assert len(paced) == len(content)
    for turn in (1, 2):  # a request may be sent again
        assert b"".join(paced) == content
        assert now[0] == pytest.approx(turn * len(content) / 100_000, rel=0.05)
    assert max(pauses) <= pacing.LONGEST_PAUSE_S
    assert len(asked) > len(pauses)
    assert b"".join(Paced(content, None, lambda: None)) == content


def test_a_burst_is_at_least_a_share() -> None:
    one, other = Pacer(1_000_000, 1), Pacer(1_000_000, 20_000)
    assert one.terms.largest_share == other.terms.largest_share == 20_000


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize(("first", "then"), [(10_000_000, 100_000), (100_000, 10_000_000)])
def test_another_rate_counts_at_once(lanes: int, first: int, then: int) -> None:
    simulation = Simulation(first, [0] * lanes)
    simulation.run(2.0)
    before = sum(simulation.sent)
    assert before == pytest.approx(2 * first, rel=0.05)
    simulation.pacer.set_rate(then)
    assert simulation.pacer.rate == then
    simulation.run(2.0 + SECONDS)
    assert sum(simulation.sent) - before == pytest.approx(then * SECONDS, rel=0.1)


def test_who_waits_at_a_low_rate_need_not_wait_any_more() -> None:
    simulation = Simulation(10, [0])
    lane = simulation.lanes[0]
    simulation.pacer.take(1000)
    assert lane.allowance(100)[1] > 99
    simulation.pacer.set_rate(1_000_000)
    assert lane.allowance(100)[1] == pytest.approx(1e-4)
    simulation.pacer.set_rate(10)
    simulation.pacer.take(1000)
    assert lane.allowance(100)[1] > 99
    simulation.pacer.set_rate(None)
    assert lane.allowance(1 << 20) == (1 << 20, 0.0)
    lane.sent(1 << 20)
    assert lane.allowance(1 << 20) == (1 << 20, 0.0), "nothing counts without a limit"


def test_what_was_let_through_without_a_limit_counts_where_there_is_one_meanwhile() -> None:
    simulation = Simulation(10, [0, 0])
    simulation.pacer.set_rate(None)
    free, other = simulation.lanes
    assert free.allowance(5000) == (5000, 0.0)
    simulation.pacer.set_rate(1000)
    free.sent(5000)
    assert other.allowance(20) == (0, pytest.approx(5.02))
    other.sent(0)
    simulation.now = 5.1
    assert other.allowance(20) == (20, 0.0)


def test_the_same_rate_again_changes_nothing() -> None:
    pacer = Pacer(1000)
    terms = pacer.terms
    pacer.set_rate(1000)
    assert pacer.terms is terms
    stale = Pacer(7).terms
    before = pacer.take(0)
    pacer.take(1_000_000, stale)
    assert pacer.take(0) - before < 100, "what other terms counted is not taken"
