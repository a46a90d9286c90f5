"""Uploading as fast as a line takes it, over several sessions at once, and no faster.

What is under way is kept to what the line needs: more would lie in buffers on the way, which a slow
line empties into the next measurement.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pbs_push.remote.session import BackupSession, Call

LEAST_ANSWERS: Final = 8
"""Of all sessions together: a slow line is measured for longer, until so many have come."""
_FIRST_AHEAD: Final = 4
_WARM_UP: Final = 0.5
"""As a part of the time that is measured: TCP, and what is under way here, grow at first."""
_QUEUE_S: Final = 0.2
"""An answer that comes this much later than a round trip tells that a queue fills the line."""
_DRAIN_S: Final = 5.0
"""How long answers to what is under way are waited for in the end, before the line is dropped."""


class _Mark(NamedTuple):
    """A moment, and how many requests had been answered then."""

    at: float
    answered: int


class Meter:
    """Counts answers of several sessions, and tells their common rate. Safe for threads.

    Counting begins with the first answers after a warm-up, and ends after ``seconds``, or later
    where ``LEAST_ANSWERS`` take longer.
    """

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._begin = time.perf_counter() + _WARM_UP * seconds
        self._end = self._begin + seconds
        self._first: _Mark | None = None
        self._last = _Mark(self._begin, 0)

    def add(self, answers: int) -> None:
        """Count answers that have come now."""
        with self._lock:
            now = time.perf_counter()
            if now < self._begin or self._is_over(now):
                return
            self._last = _Mark(now, self._last.answered + answers)
            self._first = self._first or self._last

    @property
    def over(self) -> bool:
        """Whether it has counted long enough; then no more is counted."""
        with self._lock:
            return self._is_over(time.perf_counter())

    @property
    def answers_per_s(self) -> float:
        """The rate of the answers that came after the first ones."""
        with self._lock:
            counted = self._counted()
            span = 0.0 if self._first is None else self._last.at - self._first.at
            return counted / max(span, 1e-9) if counted else 0.0

    def _counted(self) -> int:
        return 0 if self._first is None else self._last.answered - self._first.answered

    def _is_over(self, now: float) -> bool:
        return now > self._end and self._counted() >= LEAST_ANSWERS


class Upload:
    """Keeps speedtest requests with ``body`` under way on one session; ``run`` it once.

    At most ``most_ahead`` of them; as many as are answered without having waited in a queue, which
    ``round_trip_s`` tells. ``failed`` is set when it fails, and ends it when another one has.
    """

    def __init__(
        self,
        session: BackupSession,
        body: bytes,
        meter: Meter,
        *,
        most_ahead: int,
        round_trip_s: float,
        failed: threading.Event,
    ) -> None:
        self._session = session
        self._body = body
        self._meter = meter
        self._most_ahead = most_ahead
        self._soon_s = round_trip_s + _QUEUE_S
        self._failed = failed
        self._ahead = min(_FIRST_AHEAD, most_ahead)
        self._waiting: deque[tuple[Call, float]] = deque()
        self._drained_by: float | None = None

    def run(self) -> None:
        """Upload until the meter is over, and take the answers to the rest.

        Raises RemoteError, Cancelled.
        """
        try:
            self._session.pump(self._step)
        except BaseException:
            self._failed.set()
            raise

    def _step(self) -> bool:
        """Take what was answered and send more. True when there is no more to be done."""
        self._take_answers()
        if self._failed.is_set():
            return True
        if self._drained_by is None and self._meter.over:
            self._drained_by = time.perf_counter() + _DRAIN_S
        if self._drained_by is not None:
            return not self._waiting or time.perf_counter() > self._drained_by
        while len(self._waiting) < self._ahead:
            call = self._session.speedtest(self._body)
            self._waiting.append((call, time.perf_counter()))
        return False

    def _take_answers(self) -> None:
        now = time.perf_counter()
        answers = 0
        while self._waiting and self._waiting[0][0].done:
            call, sent_at = self._waiting.popleft()
            call.body()  # raises if the target refused it
            answers += 1
            # Never fewer again: what is learned late, and acted on, swings to and fro.
            if now - sent_at < self._soon_s:
                self._ahead = min(self._most_ahead, self._ahead + 1)
        if answers:
            self._meter.add(answers)
