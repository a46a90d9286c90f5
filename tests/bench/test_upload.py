"""Uploading against a session that answers by a made-up clock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import pytest

from pbs_push._native.transport import Answer
from pbs_push.bench import upload
from pbs_push.bench.upload import LEAST_ANSWERS, Meter, Upload
from pbs_push.errors import StatusError
from pbs_push.remote.session import Call


class Clock:
    """Time that goes on only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    return made


class FakeSession:
    """A line that carries ``per_s`` requests a second, each answered ``delay_s`` later."""

    def __init__(self, clock: Clock, per_s: float, delay_s: float, status: int = 200) -> None:
        self._clock = clock
        self._span = 1 / per_s
        self._delay_s = delay_s
        self._status = status
        self._free_at = 0.0
        self._open: deque[tuple[Call, float]] = deque()
        self.most_open = 0

    def speedtest(self, _body: bytes) -> Call:
        call = Call("POST /speedtest")
        self._free_at = max(self._free_at, self._clock.now) + self._span
        self._open.append((call, self._free_at + self._delay_s))
        self.most_open = max(self.most_open, len(self._open))
        return call

    def pump(self, done: Callable[[], bool]) -> None:
        while not done():
            call, due = self._open.popleft()
            self._clock.now = max(self._clock.now, due)
            call.answer = Answer(1, self._status, b"", 0, too_large=False, digest=None)

    @property
    def left(self) -> int:
        return len(self._open)


def run(
    session: FakeSession, meter: Meter, *, most_ahead: int = 160, round_trip_s: float = 0.0
) -> threading.Event:
    failed = threading.Event()
    Upload(
        session,  # type: ignore[arg-type]
        b"x",
        meter,
        most_ahead=most_ahead,
        round_trip_s=round_trip_s,
        failed=failed,
    ).run()
    return failed


@pytest.mark.parametrize(
    ("per_s", "delay_s"),
    [(3, 0.0001), (3, 0.2), (40, 0.05), (40, 0.2), (700, 0.2), (1000, 0.0001), (20_000, 0.002)],
)
def test_the_rate_is_the_lines(clock: Clock, per_s: float, delay_s: float) -> None:
    meter = Meter(2.0)
    session = FakeSession(clock, per_s, delay_s)
    run(session, meter, round_trip_s=delay_s)
    assert meter.answers_per_s == pytest.approx(per_s, rel=0.1)
    assert session.left == 0


def test_what_is_under_way_is_limited(clock: Clock) -> None:
    session = FakeSession(clock, 10_000, 0.1)
    meter = Meter(2.0)
    run(session, meter, most_ahead=50, round_trip_s=0.1)
    assert session.most_open == 50
    assert meter.answers_per_s == pytest.approx(50 / 0.1, rel=0.1)


def test_a_slow_line_is_not_stuffed(clock: Clock) -> None:
    """Of what 160 requests would take 16 seconds, about half a second is under way."""
    session = FakeSession(clock, 10, 0.05)
    run(session, Meter(2.0), round_trip_s=0.05)
    assert session.most_open <= 8


def test_a_very_slow_line_is_measured_for_longer(clock: Clock) -> None:
    meter = Meter(2.0)
    run(FakeSession(clock, 0.5, 0.1), meter, round_trip_s=0.1)
    assert clock.now > 100 + LEAST_ANSWERS / 0.5
    assert meter.answers_per_s == pytest.approx(0.5, rel=0.1)


def test_a_rest_that_does_not_come_is_not_waited_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_DRAIN_S", 0.0)
    session = FakeSession(clock, 100, 0.05)
    run(session, Meter(1.0), round_trip_s=0.05)
    assert session.left > 0


def test_a_refusal_is_an_error(clock: Clock) -> None:
    failed = threading.Event()
    refused = Upload(
        FakeSession(clock, 100, 0.0, status=400),  # type: ignore[arg-type]
        b"x",
        Meter(1.0),
        most_ahead=8,
        round_trip_s=0.0,
        failed=failed,
    )
    with pytest.raises(StatusError):
        refused.run()
    assert failed.is_set()


def test_another_ones_failure_ends_it(clock: Clock) -> None:
    failed = threading.Event()
    failed.set()
    session = FakeSession(clock, 100, 0.0)
    Upload(
        session,  # type: ignore[arg-type]
        b"x",
        Meter(1.0),
        most_ahead=8,
        round_trip_s=0.0,
        failed=failed,
    ).run()
    assert clock.now == 100.0


def test_sessions_share_one_span_of_time(clock: Clock) -> None:
    """One that is answered late, and then all at once, does not make the sum look fast."""
    meter = Meter(2.0)
    for moment, answers in [(100.5, 7), (101.5, 2), (102.0, 3), (102.5, 8), (103.5, 99)]:
        clock.now = moment
        meter.add(answers)
    # The first are warm-up, those at 101.5 the mark, the last came when it was over.
    assert meter.answers_per_s == pytest.approx((3 + 8) / 1.0)


def test_nothing_counted_is_no_rate(clock: Clock) -> None:
    meter = Meter(1.0)
    assert meter.answers_per_s == 0
    clock.now += 60
    assert not meter.over
    meter.add(3)
    assert meter.answers_per_s == 0
